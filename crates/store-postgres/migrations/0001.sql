-- Everything of one owner is keyed by `archive` (or `account`), a 128-bit hash of the bare JID, first in every key:
-- whatever one call touches lies together, on whichever machine. The text of a JID may be longer than an index entry.

CREATE TABLE mammoth.store (
    name text PRIMARY KEY,
    value bytea NOT NULL
);

-- One row per archive. The entries present are those at first .. next; rows at removed .. first are still to be
-- deleted, and nobody sees them. The free space keeps the updates of an append within the page and out of the indexes.
CREATE TABLE mammoth.archives (
    archive uuid PRIMARY KEY,
    owner text COLLATE "C" NOT NULL,
    removed bigint NOT NULL DEFAULT 0,
    first bigint NOT NULL DEFAULT 0,
    next bigint NOT NULL DEFAULT 0,
    last_stamp bigint NOT NULL DEFAULT -9223372036854775808,
    bytes bigint NOT NULL DEFAULT 0,
    CHECK (removed <= first AND first <= next)
) WITH (fillfactor = 50);
CREATE INDEX archives_owner ON mammoth.archives (owner);
CREATE INDEX archives_to_remove ON mammoth.archives (archive) WHERE removed < first;

CREATE TABLE mammoth.settings (
    archive uuid PRIMARY KEY,
    prefs text,
    expires_after text
);

-- A conversation is all that was said with one contact, a bare JID; and what was said with one of its full JIDs is a
-- conversation too. The entries of each that have a row are numbered low .. next, without gaps.
CREATE TABLE mammoth.conversations (
    archive uuid NOT NULL,
    contact uuid NOT NULL,
    low bigint NOT NULL,
    next bigint NOT NULL,
    PRIMARY KEY (archive, contact)
) WITH (fillfactor = 70);

CREATE TABLE mammoth.entries (
    archive uuid NOT NULL,
    contact uuid NOT NULL,
    position bigint NOT NULL,
    contact_position bigint NOT NULL,
    full_contact uuid,
    full_contact_position bigint,
    stamp bigint NOT NULL,
    message_id bigint,
    retracted boolean NOT NULL DEFAULT false,
    with_jid text COLLATE "C" NOT NULL,
    foreign_id bytea,
    stanza bytea NOT NULL,
    PRIMARY KEY (archive, position)
)/*partitioned*/;
CREATE UNIQUE INDEX entries_of_contact ON mammoth.entries (archive, contact, contact_position);
CREATE UNIQUE INDEX entries_of_full_contact ON mammoth.entries (archive, full_contact, full_contact_position)
    WHERE full_contact IS NOT NULL;
CREATE INDEX entries_by_message_id ON mammoth.entries (archive, message_id, position) WHERE message_id IS NOT NULL;
CREATE INDEX entries_by_foreign_id ON mammoth.entries (archive, sha256(foreign_id), position)
    WHERE foreign_id IS NOT NULL;
/*partitions*/

CREATE TABLE mammoth.accounts (
    account uuid PRIMARY KEY,
    jid text COLLATE "C" NOT NULL,
    sha1_salt bytea NOT NULL,
    sha1_iterations bigint NOT NULL,
    sha1_stored_key bytea NOT NULL,
    sha1_server_key bytea NOT NULL,
    sha256_salt bytea NOT NULL,
    sha256_iterations bigint NOT NULL,
    sha256_stored_key bytea NOT NULL,
    sha256_server_key bytea NOT NULL
);
CREATE INDEX accounts_jid ON mammoth.accounts (jid);

CREATE TABLE mammoth.roster_items (
    account uuid NOT NULL REFERENCES mammoth.accounts (account) ON DELETE CASCADE,
    contact uuid NOT NULL,
    jid text COLLATE "C" NOT NULL,
    name text,
    groups text[] NOT NULL,
    subscription text NOT NULL,
    ask boolean NOT NULL,
    listed boolean NOT NULL,
    request bytea,
    PRIMARY KEY (account, contact)
);
