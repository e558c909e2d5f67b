//! Known answers of RFC 5802 and RFC 7677, and what an exchange must refuse.

use super::*;

const SHA1_FIRST: &[u8] = b"n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL";
const SHA1_FINAL: &[u8] =
    b"c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=";
const SHA1_NONCE: &str = "3rfcNHYJY1ZVvWVs7j";

fn keys(hash: ScramHash) -> ScramKeys {
    let salt: &[u8] = match hash {
        ScramHash::Sha1 => b"QSXCR+Q6sek8bf92",
        ScramHash::Sha256 => b"W22ZaJ0SNY7soEsUEjb6gQ==",
    };
    ScramKeys::derive(hash, "pencil", &BASE64.decode(salt).unwrap(), 4096).unwrap()
}

/// A client, so that the tests need no other implementation: its final message.
fn client_final(hash: ScramHash, password: &str, first: &str, challenge: &[u8], binding: &[u8]) -> String {
    let challenge = std::str::from_utf8(challenge).unwrap();
    let mut fields = challenge.split(',');
    let nonce = fields.next().unwrap();
    let salt = BASE64.decode(&fields.next().unwrap().as_bytes()[2..]).unwrap();
    let iterations = fields.next().unwrap()[2..].parse().unwrap();
    let mut parts = first.splitn(3, ',');
    let gs2 = format!("{},{},", parts.next().unwrap(), parts.next().unwrap());
    let bare = parts.next().unwrap();
    let without_proof = format!("c={},{nonce}", BASE64.encode(&[gs2.as_bytes(), binding].concat()));
    let auth_message = format!("{bare},{challenge},{without_proof}");
    let client_key = hash.hmac(&hash.salted(password, &salt, iterations), b"Client Key");
    let signature = hash.hmac(&hash.hash(&client_key), auth_message.as_bytes());
    let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
    format!("{without_proof},p={}", BASE64.encode(&proof))
}

/// Runs an exchange with the account `user`/`pencil` and tells how it ends.
fn run(
    hash: ScramHash,
    password: &str,
    first: &str,
    ours: &ChannelBinding,
    theirs: &[u8],
) -> Result<(), ScramError> {
    let (exchange, challenge) =
        ClientFirst::read(first.as_bytes())?.challenge(hash, &keys(hash), ours, b"random bytes")?;
    exchange.finish(client_final(hash, password, first, &challenge, theirs).as_bytes()).map(|_| ())
}

#[test]
fn the_example_of_rfc_5802() {
    let first = ClientFirst::read(SHA1_FIRST).unwrap();
    assert_eq!((first.username(), first.authzid()), ("user", None));
    let (exchange, challenge) = first
        .challenge_with(ScramHash::Sha1, &keys(ScramHash::Sha1), &ChannelBinding::NotOffered, SHA1_NONCE)
        .unwrap();
    assert_eq!(challenge, b"r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096");
    assert_eq!(exchange.finish(SHA1_FINAL).unwrap(), b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=");
}

#[test]
fn the_example_of_rfc_7677() {
    let (exchange, challenge) = ClientFirst::read(b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO")
        .unwrap()
        .challenge_with(
            ScramHash::Sha256,
            &keys(ScramHash::Sha256),
            &ChannelBinding::NotOffered,
            "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
        )
        .unwrap();
    assert_eq!(
        challenge,
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    );
    let last = exchange.finish(
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
    );
    assert_eq!(last.unwrap(), b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn a_wrong_byte_anywhere_in_the_final_message_is_refused() {
    for at in 0..SHA1_FINAL.len() {
        let mut changed = SHA1_FINAL.to_vec();
        changed[at] ^= 1;
        let (exchange, _) = ClientFirst::read(SHA1_FIRST)
            .unwrap()
            .challenge_with(ScramHash::Sha1, &keys(ScramHash::Sha1), &ChannelBinding::NotOffered, SHA1_NONCE)
            .unwrap();
        assert!(exchange.finish(&changed).is_err(), "byte {at}");
    }
}

#[test]
fn channel_binding_and_downgrades() {
    use ChannelBinding::{Chosen, NotOffered, Offered};
    use ScramError::{Malformed, NotAuthorized};
    let exporter = || Chosen(b"exported".to_vec());
    let bound = "p=tls-exporter,,n=user,r=abc";
    type Case = (&'static str, ChannelBinding, &'static [u8], Result<(), ScramError>);
    let cases: [Case; 10] = [
        ("n,,n=user,r=abc", NotOffered, b"", Ok(())),
        ("n,,n=user,r=abc", Offered, b"", Ok(())),
        ("n,,n=user,r=abc", exporter(), b"", Err(Malformed)),
        ("y,,n=user,r=abc", NotOffered, b"", Ok(())),
        ("y,,n=user,r=abc", Offered, b"", Err(NotAuthorized)),
        (bound, exporter(), b"exported", Ok(())),
        (bound, exporter(), b"of another connection", Err(NotAuthorized)),
        (bound, Offered, b"exported", Err(Malformed)),
        ("p=tls-unique,,n=user,r=abc", exporter(), b"exported", Err(Malformed)),
        ("p=tls-exporter,a=user,n=user,r=abc", exporter(), b"exported", Ok(())),
    ];
    for hash in [ScramHash::Sha1, ScramHash::Sha256] {
        for (first, ours, theirs, outcome) in &cases {
            assert_eq!(run(hash, "pencil", first, ours, theirs), *outcome, "{first}");
        }
        assert_eq!(run(hash, "pencils", "n,,n=user,r=abc", &NotOffered, b""), Err(NotAuthorized));
    }
}

#[test]
fn first_messages() {
    let first = ClientFirst::read("n,a=j=3Duli=2C,n=a=2Cb=3Dc\u{aa},r=x,ext=1".as_bytes()).unwrap();
    assert_eq!((first.username(), first.authzid()), ("a,b=ca", Some("j=uli,")));
    for malformed in [
        "",
        "n",
        "n,,",
        "n,,n=user",
        "n,,n=,r=x",
        "n,,n=user,r=",
        "n,,r=x,n=user",
        "n,,m=ext,n=user,r=x",
        "n,,n=us=er,r=x",
        "n,,n=us=2cer,r=x",
        "n,b=x,n=user,r=x",
        "x,,n=user,r=x",
        "n,,n=user\u{7},r=x",
        "n,,n=user,r=é",
    ] {
        assert_eq!(ClientFirst::read(malformed.as_bytes()), Err(ScramError::Malformed), "{malformed}");
    }
    assert!(ClientFirst::read(b"n,,n=\xff,r=x").is_err());
    let long = format!("n,,n={},r=x", "a".repeat(MESSAGE_MAX_BYTES));
    assert!(ClientFirst::read(long.as_bytes()).is_err());
}

#[test]
fn plain_takes_the_password_and_no_other() {
    let credentials = Credentials::derive("pässword\u{2168}", b"salt").unwrap();
    assert!(credentials.verify_plain("pässword\u{2168}"));
    // SASLprep: the Roman numeral nine is spelt out, a soft hyphen is nothing.
    assert!(credentials.verify_plain("pä\u{ad}sswordIX"));
    for wrong in ["", "pässword", "PÄSSWORDIX", "pässwordIX "] {
        assert!(!credentials.verify_plain(wrong), "{wrong}");
    }
    assert!(Credentials::derive("", b"salt").is_err());
    assert!(Credentials::derive("bell\u{7}", b"salt").is_err());
}

#[test]
fn a_stand_in_looks_like_an_account_and_lets_nobody_in() {
    let stand_in = Credentials::stand_in(b"secret", "nobody");
    assert!(stand_in == Credentials::stand_in(b"secret", "nobody"));
    assert!(stand_in.sha1.salt != Credentials::stand_in(b"secret", "nemo").sha1.salt);
    assert!(stand_in.sha1.salt != Credentials::stand_in(b"another", "nobody").sha1.salt);
    let real = Credentials::derive("pencil", &[7; SALT_BYTES]).unwrap();
    for hash in [ScramHash::Sha1, ScramHash::Sha256] {
        let (stand_in, real) = (stand_in.keys(hash), real.keys(hash));
        assert_eq!(stand_in.iterations, real.iterations);
        assert_eq!(stand_in.salt.len(), real.salt.len());
        assert_eq!(stand_in.stored_key.len(), real.stored_key.len());
    }
    // As with a real account, both hashes show the same salt.
    assert_eq!(stand_in.sha1.salt, stand_in.sha256.salt);
    assert_eq!(real.sha1.salt, real.sha256.salt);
    assert!(!stand_in.verify_plain("pencil"));
    let (exchange, challenge) = ClientFirst::read(b"n,,n=nobody,r=abc")
        .unwrap()
        .challenge(ScramHash::Sha256, &stand_in.sha256, &ChannelBinding::NotOffered, b"random")
        .unwrap();
    let last = client_final(ScramHash::Sha256, "pencil", "n,,n=nobody,r=abc", &challenge, b"");
    assert_eq!(exchange.finish(last.as_bytes()), Err(ScramError::NotAuthorized));
}

#[test]
fn plain_messages() {
    let message = PlainMessage::read(b"\0user\0pencil").unwrap();
    assert_eq!((message.authzid, message.username, message.password), (None, "user", "pencil"));
    assert_eq!(PlainMessage::read(b"a\0user\0pencil").unwrap().authzid, Some("a"));
    for malformed in [b"".as_slice(), b"user\0pencil", b"\0\0pencil", b"\0user\0", b"\0u\0p\0x", b"\0\xff\0p"]
    {
        assert!(PlainMessage::read(malformed).is_err(), "{malformed:?}");
    }
}
