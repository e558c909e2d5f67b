//! Every SQL statement there is. What they are asked for, and in which order, is left to the other files.
//!
//! Statements are plain SQL, without stored functions, and each names the one owner it is about; only [`APPEND`]
//! may speak of several, to share one commit, and is as right with one.

/// The migrations, in order; the first is number 1. What has once been released is never changed.
pub const MIGRATIONS: &[&str] = &[include_str!("../migrations/0001.sql")];
/// Where the first migration says how the entries are partitioned: behind the table, and after the indexes.
pub const PARTITIONED: (&str, &str) = ("/*partitioned*/", " PARTITION BY HASH (archive)");
/// Where the partitions themselves go.
pub const PARTITIONS: &str = "/*partitions*/";

/// Partition `n` of `of`.
pub fn partition(n: u16, of: u16) -> String {
    format!(
        "CREATE TABLE mammoth.entries_{n} PARTITION OF mammoth.entries \
         FOR VALUES WITH (MODULUS {of}, REMAINDER {n});\n"
    )
}

/// What sort of server this is.
pub const SERVER: &str = "SELECT current_setting('server_version_num')::int, current_setting('server_version'), \
    current_setting('server_encoding'), current_setting('fsync')";
/// How many other sessions of the same name there are.
pub const OTHERS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
    AND application_name = current_setting('application_name') AND pid <> pg_backend_pid()";
/// Whether there is a schema of ours.
pub const HAS_SCHEMA: &str = "SELECT to_regclass('mammoth.migrations') IS NOT NULL";
/// The newest migration applied.
pub const SCHEMA_NUMBER: &str = "SELECT coalesce(max(number), 0) FROM mammoth.migrations";
/// One at a time migrates; the number is "mammoth" in ASCII.
pub const MIGRATION_LOCK: &str = "SELECT pg_advisory_xact_lock(30787895076811880)";
/// The table of migrations.
pub const MIGRATION_TABLE: &str = "CREATE SCHEMA IF NOT EXISTS mammoth; \
    CREATE TABLE IF NOT EXISTS mammoth.migrations ( \
        number integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())";
/// Notes a migration.
pub const MIGRATED: &str = "INSERT INTO mammoth.migrations (number) VALUES ($1)";

/// How each session is set up. Every statement has its index; a plan made while a table was small must not outlive
/// that, so sequential scans are not considered. A commit that has been answered is durable whatever the server's
/// default is, and a session that has been lost does not hold its locks for ever.
pub const SESSION: &str = "SET statement_timeout = 30000; SET lock_timeout = 20000; \
    SET idle_in_transaction_session_timeout = 15000; SET default_transaction_isolation = 'read committed'; \
    SET enable_seqscan = off; SET jit = off; \
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";
/// For sessions that read: the plans depend on no parameter, so they are made once.
pub const SESSION_READS: &str = "SET plan_cache_mode = force_generic_plan";
/// For sessions that append: the plan depends on how long the arrays are.
pub const SESSION_WRITES: &str = "SET plan_cache_mode = force_custom_plan";
/// For the session that vacuums.
pub const SESSION_VACUUMS: &str = "SET statement_timeout = 0";

/// Begins a page: what follows sees one moment.
pub const BEGIN_SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// Begins a change.
pub const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
/// Ends either.
pub const COMMIT: &str = "COMMIT";

/// Makes the secret of the ids, unless there is one.
pub const MAKE_ID_KEY: &str =
    "INSERT INTO mammoth.store (name, value) VALUES ('id key', $1) ON CONFLICT (name) DO NOTHING";
/// The secret of the ids.
pub const ID_KEY: &str = "SELECT value FROM mammoth.store WHERE name = 'id key'";

/// The head of an archive.
pub const HEAD: &str = "SELECT first, next, last_stamp, removed FROM mammoth.archives WHERE archive = $1";
/// The head of an archive, and the ends of one of its conversations.
pub const HEAD_AND_CONVERSATION: &str = "SELECT a.first, a.next, a.last_stamp, a.removed, c.low, c.next \
    FROM mammoth.archives a \
    LEFT JOIN mammoth.conversations c ON c.archive = a.archive AND c.contact = $2 WHERE a.archive = $1";
/// The head of an archive, held until the transaction ends.
pub const LOCK_HEAD: &str =
    "SELECT first, next, last_stamp, removed, bytes FROM mammoth.archives WHERE archive = $1 FOR UPDATE";
/// Makes the rows of archives that have none. In the order of their keys, so that two who do so do not wait for
/// each other.
pub const MAKE_ARCHIVES: &str = "INSERT INTO mammoth.archives (archive, owner) \
    SELECT t.archive, t.owner FROM unnest($1::uuid[], $2::text[]) AS t (archive, owner) ORDER BY t.archive \
    ON CONFLICT (archive) DO NOTHING";

/// Appends a group of batches, each to an archive of its own: those that find the next position they expect and no
/// later stamp are written whole, the others not at all. Answers the heads as they were before, and which batches
/// were written.
///
/// Parameters 1 to 6 are the batches (archive, expected position, entries, first and last stamp, bytes); 7 to 9
/// how many entries each has for each conversation; 10 to 20 the entries, with how many of the same batch and contact
/// stand from each to the end, itself included, and the same for its full JID if it is with one.
pub const APPEND: &str = r#"
WITH asked AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::int8[], $3::int8[], $4::int8[], $5::int8[], $6::int8[])
        AS t (archive, expected, entries, first_stamp, last_stamp, bytes)
), locked AS MATERIALIZED (
    SELECT a.archive, a.first, a.next, a.last_stamp FROM mammoth.archives a
    WHERE a.archive = ANY ($1) ORDER BY a.archive FOR UPDATE
), heads AS (
    UPDATE mammoth.archives a
    SET next = a.next + k.entries, last_stamp = k.last_stamp, bytes = a.bytes + k.bytes
    FROM asked k JOIN locked l ON l.archive = k.archive
    WHERE a.archive = k.archive AND l.next = k.expected AND l.last_stamp <= k.first_stamp
    RETURNING a.archive
), counted AS (
    INSERT INTO mammoth.conversations AS c (archive, contact, low, next)
    SELECT t.archive, t.contact, 0, t.entries
    FROM unnest($7::uuid[], $8::uuid[], $9::int8[]) AS t (archive, contact, entries)
    JOIN heads h ON h.archive = t.archive
    ON CONFLICT (archive, contact) DO UPDATE SET next = c.next + EXCLUDED.next
    RETURNING c.archive, c.contact, c.next
), written AS (
    INSERT INTO mammoth.entries (archive, position, contact, contact_position, full_contact, full_contact_position,
        stamp, with_jid, message_id, foreign_id, stanza)
    SELECT e.archive, e.position, e.contact, c.next - e.from_end, e.full_contact, f.next - e.full_from_end,
        e.stamp, e.with_jid, e.message_id, e.foreign_id, e.stanza
    FROM unnest($10::uuid[], $11::int8[], $12::uuid[], $13::int8[], $14::uuid[], $15::int8[], $16::int8[],
        $17::text[], $18::int8[], $19::bytea[], $20::bytea[])
        AS e (archive, position, contact, from_end, full_contact, full_from_end, stamp, with_jid, message_id,
            foreign_id, stanza)
    JOIN counted c ON c.archive = e.archive AND c.contact = e.contact
    LEFT JOIN counted f ON f.archive = e.archive AND f.contact = e.full_contact
)
SELECT l.archive, l.first, l.next, l.last_stamp, h.archive IS NOT NULL
FROM locked l LEFT JOIN heads h ON h.archive = l.archive
"#;

/// The columns of an entry, for those that follow.
macro_rules! entries {
    ($($rest:literal),+) => {
        concat!(
            "SELECT e.position, e.with_jid, e.stamp, e.stanza, e.foreign_id, e.retracted FROM mammoth.entries e ",
            $($rest),+
        )
    };
}

/// Entries by their positions.
pub const ENTRIES: &str =
    entries!("WHERE e.archive = $1 AND e.position >= $2 AND e.position < $3 ORDER BY e.position");
/// Entries at some positions.
pub const ENTRIES_AT: &str = entries!("WHERE e.archive = $1 AND e.position = ANY ($2) ORDER BY e.position");
/// What filters need to know of entries at some positions.
pub const FACTS_AT: &str = "SELECT position, with_jid, stamp FROM mammoth.entries \
    WHERE archive = $1 AND position = ANY ($2) ORDER BY position";
/// The search by halving: `seek` ends where `low = high`, at the first place of `$low .. $high` whose entry's `$what` is
/// at least `$least`. `$at` says which entry stands at a place; `$when`, when there is anything to search for at all.
macro_rules! halving {
    ($low:literal, $high:literal, $when:literal, $what:literal, $least:literal, $($at:literal),+) => {
        concat!(
            "seek (low, high) AS ( \
                SELECT ", $low, "::int8, ", $high, "::int8 ", $when, " \
                UNION ALL \
                SELECT CASE WHEN e.", $what, " < ", $least, "::int8 THEN s.middle + 1 ELSE s.low END, \
                    CASE WHEN e.", $what, " < ", $least, "::int8 THEN s.high ELSE s.middle END \
                FROM (SELECT low, high, low + (high - low) / 2 AS middle FROM seek WHERE low < high) s \
                CROSS JOIN LATERAL ( \
                    SELECT ", $what, " FROM mammoth.entries WHERE archive = $1 AND ", $($at),+, " = s.middle LIMIT 1 \
                ) e \
            ) "
        )
    };
}

/// The first position of $2 .. $3 with a stamp of at least $4, or $3; nothing when an entry is missing.
pub const SEEK_STAMP: &str = concat!(
    "WITH RECURSIVE ",
    halving!("$2", "$3", "", "stamp", "$4", "position"),
    "SELECT low FROM seek WHERE low = high"
);

/// What is asked of one conversation; the columns that number its entries make the difference between contacts and
/// full JIDs.
#[derive(Debug)]
pub struct OfConversation {
    /// Entries by their places.
    pub entries: &'static str,
    /// The first place of $3 .. $4 with a stamp of at least $5, or $4; nothing when one is missing.
    pub seek_stamp: &'static str,
    /// The first place of $3 .. $4 at position $5 or later, or $4; nothing when one is missing. When the entry at
    /// that position is of the conversation, it says so itself, and the second column is true. (The inner select
    /// keeps the planner from looking for it among all entries of the conversation.)
    pub seek_position: &'static str,
}

macro_rules! of_conversation {
    ($contact:literal, $place:literal) => {
        OfConversation {
            entries: entries!(
                "WHERE e.archive = $1 AND e.",
                $contact,
                " = $2 AND e.",
                $place,
                " >= $3 AND e.",
                $place,
                " < $4 ORDER BY e.",
                $place
            ),
            seek_stamp: concat!(
                "WITH RECURSIVE ",
                halving!("$3", "$4", "", "stamp", "$5", $contact, " = $2 AND ", $place),
                "SELECT low FROM seek WHERE low = high"
            ),
            seek_position: concat!(
                "WITH RECURSIVE here AS MATERIALIZED ( \
                    SELECT ",
                $place,
                " AS place FROM ( \
                        SELECT ",
                $contact,
                ", ",
                $place,
                " FROM mammoth.entries \
                        WHERE archive = $1 AND position = $5::int8 LIMIT 1 \
                    ) e WHERE ",
                $contact,
                " = $2 \
                ), ",
                halving!(
                    "$3",
                    "$4",
                    "WHERE NOT EXISTS (SELECT 1 FROM here)",
                    "position",
                    "$5",
                    $contact,
                    " = $2 AND ",
                    $place
                ),
                "SELECT place, true FROM here UNION ALL SELECT low, false FROM seek WHERE low = high"
            ),
        }
    };
}

/// With a contact.
pub static OF_CONTACT: OfConversation = of_conversation!("contact", "contact_position");
/// With one full JID.
pub static OF_FULL_CONTACT: OfConversation = of_conversation!("full_contact", "full_contact_position");

/// The newest entry with a foreign id.
pub const LOCATE: &str = "SELECT e.position FROM mammoth.archives a \
    JOIN mammoth.entries e ON e.archive = a.archive AND e.position >= a.first \
    WHERE a.archive = $1 AND e.archive = $1 AND e.foreign_id IS NOT NULL AND sha256(e.foreign_id) = sha256($2) \
    ORDER BY e.position DESC LIMIT 1";
/// The newest entries with a message id.
pub const FIND: &str = "SELECT e.position FROM mammoth.archives a \
    JOIN mammoth.entries e ON e.archive = a.archive AND e.position >= a.first \
    WHERE a.archive = $1 AND e.archive = $1 AND e.message_id = $2 ORDER BY e.position DESC LIMIT $3";

/// How long the stanza at a position is; nothing if there is none.
pub const STANZA_BYTES: &str =
    "SELECT octet_length(stanza)::int8 FROM mammoth.entries WHERE archive = $1 AND position = $2";
/// Puts a tombstone in the place of a stanza.
pub const RETRACT: &str =
    "UPDATE mammoth.entries SET stanza = $3, retracted = true WHERE archive = $1 AND position = $2";
/// Counts the bytes of an archive anew.
pub const ADD_BYTES: &str = "UPDATE mammoth.archives SET bytes = bytes + $2 WHERE archive = $1";

/// Bytes of stanzas from one position to another.
pub const BYTES_BETWEEN: &str = "SELECT coalesce(sum(octet_length(stanza)), 0)::int8 FROM mammoth.entries \
    WHERE archive = $1 AND position >= $2 AND position < $3";
/// The first position of $2 .. $3 up to which stanzas have at least $4 bytes.
pub const SEEK_BYTES: &str = "SELECT position FROM ( \
        SELECT position, sum(octet_length(stanza)) OVER (ORDER BY position) AS bytes FROM mammoth.entries \
        WHERE archive = $1 AND position >= $2 AND position < $3) t \
    WHERE bytes >= $4::int8 ORDER BY position LIMIT 1";
/// Moves the first position.
pub const MOVE_FIRST: &str = "UPDATE mammoth.archives SET first = $2 WHERE archive = $1";
/// Has an archive that has never been written to begin at a position.
pub const BEGIN_ARCHIVE: &str = "UPDATE mammoth.archives SET removed = $2, first = $2, next = $2, last_stamp = $3 \
    WHERE archive = $1 AND next = 0 AND first = 0";
/// Deletes the rows at $2 .. $3, which nobody sees any more, and what is counted of them.
pub const REMOVE: &str = r#"
WITH gone AS (
    DELETE FROM mammoth.entries WHERE archive = $1 AND position >= $2 AND position < $3
    RETURNING contact, contact_position, full_contact, full_contact_position, octet_length(stanza) AS bytes
), done AS MATERIALIZED (
    SELECT contact, max(place) + 1 AS low FROM (
        SELECT contact, contact_position AS place FROM gone
        UNION ALL SELECT full_contact, full_contact_position FROM gone WHERE full_contact IS NOT NULL
    ) places GROUP BY contact
), ended AS (
    DELETE FROM mammoth.conversations c USING done d
    WHERE c.archive = $1 AND c.contact = d.contact AND c.next = d.low
), moved AS (
    UPDATE mammoth.conversations c SET low = d.low FROM done d
    WHERE c.archive = $1 AND c.contact = d.contact AND c.next > d.low
)
UPDATE mammoth.archives SET removed = $3, bytes = bytes - (SELECT coalesce(sum(bytes), 0) FROM gone)
WHERE archive = $1
"#;
/// Archives with rows to be deleted.
pub const TO_REMOVE: &str = "SELECT archive FROM mammoth.archives WHERE removed < first LIMIT $1";
/// The table that holds the entries of an archive: a partition, if there are any.
pub const TABLE_OF: &str = "SELECT tableoid::regclass::text FROM mammoth.entries WHERE archive = $1 LIMIT 1";
/// Frees what deleted rows took.
pub fn vacuum(table: &str) -> String {
    format!("VACUUM {table}")
}

/// What is set for an archive.
pub const SETTINGS: &str = "SELECT prefs, expires_after FROM mammoth.settings WHERE archive = $1";
/// Sets the prefs.
pub const SET_PREFS: &str = "INSERT INTO mammoth.settings (archive, prefs) VALUES ($1, $2) \
    ON CONFLICT (archive) DO UPDATE SET prefs = EXCLUDED.prefs";
/// Sets the period.
pub const SET_EXPIRES_AFTER: &str = "INSERT INTO mammoth.settings (archive, expires_after) VALUES ($1, $2) \
    ON CONFLICT (archive) DO UPDATE SET expires_after = EXCLUDED.expires_after";
/// Forgets what was set.
pub const UNSET: &str = "DELETE FROM mammoth.settings WHERE archive = $1";

/// Archives in the order of their owners.
pub const OWNERS: &str = "SELECT a.owner, a.first, a.next, a.last_stamp, a.bytes, s.expires_after, \
        CASE WHEN a.first < a.next THEN \
            (SELECT e.stamp FROM mammoth.entries e WHERE e.archive = a.archive AND e.position = a.first) END \
    FROM (SELECT * FROM mammoth.archives WHERE owner > $1 ORDER BY owner LIMIT $2) a \
    LEFT JOIN mammoth.settings s ON s.archive = a.archive ORDER BY a.owner";
/// Figures of all archives.
pub const STATS: &str = "SELECT count(*) FILTER (WHERE first < next), coalesce(sum(next - first), 0)::int8, \
    coalesce(sum(first - removed), 0)::int8, count(*) FROM mammoth.archives";
/// What the tables and their indexes take on disk.
pub const DISK_BYTES: &str = "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::int8 FROM pg_class c \
    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'mammoth' AND c.relkind = 'r'";

/// The credentials of an account.
pub const CREDENTIALS: &str = "SELECT sha1_salt, sha1_iterations, sha1_stored_key, sha1_server_key, \
    sha256_salt, sha256_iterations, sha256_stored_key, sha256_server_key FROM mammoth.accounts WHERE account = $1";
/// Makes an account.
pub const CREATE_ACCOUNT: &str = "INSERT INTO mammoth.accounts VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
    ON CONFLICT (account) DO NOTHING";
/// Replaces the credentials of an account.
pub const SET_CREDENTIALS: &str = "UPDATE mammoth.accounts SET sha1_salt = $2, sha1_iterations = $3, \
    sha1_stored_key = $4, sha1_server_key = $5, sha256_salt = $6, sha256_iterations = $7, \
    sha256_stored_key = $8, sha256_server_key = $9 WHERE account = $1";
/// Removes an account, and with it its roster.
pub const REMOVE_ACCOUNT: &str = "DELETE FROM mammoth.accounts WHERE account = $1";
/// Accounts in order.
pub const ACCOUNTS: &str = "SELECT jid FROM mammoth.accounts WHERE jid > $1 ORDER BY jid LIMIT $2";
/// A roster in order.
pub const ROSTER: &str = "SELECT jid, name, groups, subscription, ask, listed, request \
    FROM mammoth.roster_items WHERE account = $1 ORDER BY jid";
/// Puts an item into a roster, if there is such an account.
pub const SET_ROSTER_ITEM: &str = "INSERT INTO mammoth.roster_items \
        (account, contact, jid, name, groups, subscription, ask, listed, request) \
    SELECT account, $2, $3, $4, $5, $6, $7, $8, $9 FROM mammoth.accounts WHERE account = $1 \
    ON CONFLICT (account, contact) DO UPDATE SET name = EXCLUDED.name, groups = EXCLUDED.groups, \
        subscription = EXCLUDED.subscription, ask = EXCLUDED.ask, listed = EXCLUDED.listed, \
        request = EXCLUDED.request";
/// Takes an item out of a roster.
pub const REMOVE_ROSTER_ITEM: &str = "DELETE FROM mammoth.roster_items WHERE account = $1 AND contact = $2";
