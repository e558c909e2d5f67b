//! One bound session: one loop, one match on the kind of stanza. It reads its client's stanzas in order, keeps
//! up to a window of messages in flight, and is the only one that ever waits for its client. What is done with a
//! stanza is left to `message`, `presence` and `iq`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jid::{BareJid, FullJid, Jid};
use mammoth_wire::header::STREAM_END;
use mammoth_wire::iq::Verb;
use mammoth_wire::ns;
use mammoth_wire::stanza::{Kind, Stanza};
use mammoth_wire::stanza_error::StanzaError;
use mammoth_wire::stream::StreamEvent;
use mammoth_wire::stream_error::{StreamCondition, StreamError};
use tokio::io::{AsyncWriteExt, ReadHalf};
use tokio::sync::watch;
use tracing::{debug, info};

use crate::clock;
use crate::house::House;
use crate::lane::{Message, Passed};
use crate::login::Bound;
use crate::online::Resource;
use crate::stopping;
use crate::stream::{End, Io, Stream};
use crate::{iq, message, presence};

/// After this many seconds of silence the client is asked whether it is still there.
const SILENCE_SECONDS: u64 = 300;
/// How long it may take to answer, in seconds.
const ANSWER_SECONDS: u64 = 60;
/// How long a closing session waits for its last bytes to be written, in seconds.
const LINGER_SECONDS: u64 = 5;

/// What the parts of a session share.
pub struct Session {
    /// The server around it.
    pub house: Arc<House>,
    /// What others see of it.
    pub resource: Arc<Resource>,
    /// Its account.
    pub account: BareJid,
    /// The address last written to, if it was spelt as we spell it.
    pub last_to: Option<Jid>,
    /// Messages on their way, oldest first.
    in_flight: VecDeque<Arc<Message>>,
}

impl Session {
    /// Its address.
    #[must_use]
    pub fn jid(&self) -> &FullJid {
        &self.resource.jid
    }

    /// Answers a stanza of its client with an error; stanzas that must not be answered are not.
    pub fn refuse(&self, stanza: &Stanza, error: &StanzaError) {
        debug!(session.jid = %self.jid(), stanza = stanza.name(), reason = error.condition, "refused");
        if let Some(reply) = error.reply(stanza, &Jid::from(self.jid().clone())) {
            self.resource.outbox.push(reply);
        }
    }

    /// A question whether the client is still there (XEP-0199).
    fn ping(&self) -> Bytes {
        let domain = Jid::from(BareJid::from_parts(None, self.account.domain()));
        let me = Jid::from(self.jid().clone());
        let payload = format!("<ping xmlns='{}'/>", ns::PING);
        mammoth_wire::iq::request(Verb::Get, "silence", Some(&domain), Some(&me), &payload)
    }

    /// Waits until all of this session's messages are durable, or refused.
    pub async fn settle(&mut self) {
        while let Some(passed) = front(&self.in_flight).await {
            self.landed(passed).await;
        }
    }

    /// Ends the oldest message in flight, and those behind it of which it is known by now what became of them.
    async fn landed(&mut self, passed: Passed) {
        let mut passed = Some(passed);
        while let Some(result) = passed
            && let Some(message) = self.in_flight.pop_front()
        {
            message::landed(self, &message.read, result).await;
            passed = self.in_flight.front().and_then(|next| next.passed.known());
        }
    }

    fn may_read(&self) -> bool {
        self.in_flight.len() < self.house.settings.limits.in_flight
    }
}

/// What became of the oldest message in flight; `None` when there is none.
async fn front(in_flight: &VecDeque<Arc<Message>>) -> Option<Passed> {
    Some(in_flight.front()?.passed.told().await)
}

/// Serves a bound session until it ends.
pub async fn run(house: Arc<House>, bound: Bound, mut stop: watch::Receiver<bool>) {
    let Bound { stream, resource } = bound;
    let account = resource.jid.to_bare();
    info!(session.jid = %resource.jid, "session started");
    house.metrics.sessions.inc();
    let (reading, writing) = tokio::io::split(stream.io);
    let mut stream = Stream { io: reading, reader: stream.reader, opened: stream.opened };
    let outbox = resource.outbox.clone();
    let writer = tokio::spawn({
        let outbox = outbox.clone();
        async move {
            let mut writing = outbox.write_to(writing).await;
            let _ = writing.shutdown().await;
        }
    });
    let mut session = Session { house, resource, account, last_to: None, in_flight: VecDeque::new() };
    let end = serve(&mut session, &mut stream, &mut stop).await;
    match end {
        End::Error(error) => {
            debug!(session.jid = %session.jid(), error = error.condition.name(), "stream error");
            session.house.metrics.stream_errors.inc();
            outbox.close(format!("{}{STREAM_END}", error.to_xml()).into());
        }
        End::Gone => {
            // What is under way may still have something to tell.
            session.settle().await;
            outbox.close(STREAM_END.into());
        }
    }
    session.house.online.remove(&session.resource);
    session.settle().await;
    presence::gone(&session).await;
    let abort = writer.abort_handle();
    if tokio::time::timeout(Duration::from_secs(LINGER_SECONDS), writer).await.is_err() {
        abort.abort();
    }
    session.house.metrics.sessions.dec();
    info!(session.jid = %session.jid(), "session ended");
}

async fn serve(
    session: &mut Session,
    stream: &mut Stream<ReadHalf<Io>>,
    stop: &mut watch::Receiver<bool>,
) -> End {
    let outbox = session.resource.outbox.clone();
    let mut asked = false;
    let silence = tokio::time::sleep(Duration::from_secs(SILENCE_SECONDS));
    tokio::pin!(silence);
    loop {
        let may_read = session.may_read();
        tokio::select! {
            biased;
            () = outbox.closed() => return End::Gone,
            () = stopping(stop) => {
                return StreamError::new(StreamCondition::SystemShutdown, "the server is stopping").into();
            }
            Some(passed) = front(&session.in_flight), if !session.in_flight.is_empty() => {
                session.landed(passed).await;
            }
            event = stream.event(), if may_read => {
                if let Err(end) = take(session, stream, event).await {
                    return end;
                }
                asked = false;
                silence.as_mut().reset(clock::after(SILENCE_SECONDS));
            }
            () = &mut silence, if may_read => {
                if asked {
                    return StreamError::new(StreamCondition::ConnectionTimeout, "no answer").into();
                }
                asked = true;
                outbox.push(session.ping());
                silence.as_mut().reset(clock::after(ANSWER_SECONDS));
            }
        }
    }
}

/// Handles what was just read, and what came with it, as long as there is room for more in flight.
async fn take(
    session: &mut Session,
    stream: &mut Stream<ReadHalf<Io>>,
    event: Result<StreamEvent, End>,
) -> Result<(), End> {
    let mut event = Some(event?);
    while let Some(taken) = event {
        match taken {
            StreamEvent::Stanza(stanza) => {
                handle(session, stanza).await?;
                session.resource.outbox.calm().await;
            }
            StreamEvent::Close => return Err(End::Gone),
            StreamEvent::Open(_) => {
                return Err(StreamError::new(StreamCondition::BadFormat, "a second header").into());
            }
        }
        event = if session.may_read() && session.resource.outbox.is_open() {
            stream.reader.next()?
        } else {
            None
        };
    }
    Ok(())
}

async fn handle(session: &mut Session, stanza: Stanza) -> Result<(), StreamError> {
    // RFC 6120 §8.1.2.1: a client speaks for itself or not at all.
    match stanza.from() {
        Ok(None) => {}
        Ok(Some(from)) if from == *session.jid() || from == session.account => {}
        Ok(Some(_)) | Err(_) => {
            return Err(StreamError::new(StreamCondition::InvalidFrom, "not the address of this session"));
        }
    }
    match stanza.kind() {
        Kind::Message => {
            if let Some(message) = message::pass(session, stanza).await {
                session.in_flight.push_back(message);
            }
            Ok(())
        }
        Kind::Presence => {
            presence::handle(session, &stanza).await;
            Ok(())
        }
        Kind::Iq => {
            iq::handle(session, &stanza).await;
            Ok(())
        }
        Kind::Other => Err(StreamError::unsupported_stanza_type()),
    }
}
