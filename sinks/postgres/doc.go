// Package postgres is the PostgreSQL sink: it stores sealed records exactly once, in
// order, each with its frame, statement and salt beside columns to search by, and
// gives them back.
//
//   - [Sink] writes, as the role sealstream_writer, which cannot read or change
//     evidence. One call is one transaction: the compare-and-set of sink_offsets,
//     then COPY. So an offset is never ahead of its rows (I5), a zombie changes
//     nothing, and an answer that was lost is settled by reading the offset.
//   - [Reader] answers the API's queries, as sealstream_reader.
//   - [Auditor] compares rows with sealed records, for verify, as sealstream_reader.
//   - [Repairer] replaces rows that are not what the ledger says, as
//     sealstream_repair; each use is written down in the table repairs.
//   - [Migrate] makes all of that. Tables belong to sealstream_owner, who also drops
//     partitions whose time is over.
//
// An owner that stands still in the middle of a transaction (SIGSTOP, a dead machine)
// holds its partitions' rows locked; the next owner ends such sessions after a while.
//
// It knows no Kafka and does not retry: sinks.Deliverer does. It trusts nobody's
// claim that a row is right: an owner or superuser can change anything, and verify
// will say so, because every column of a row is a pure function of the sealed record,
// its place, and [Tenants] (and, for Avro, the schema its id names).
//
// Decisions that readers of the table should know:
//
//   - event_time is the payload's "@timestamp" if it is in the years 1 to 9999, else
//     the record timestamp, else 1970-01-01, so that every row has a place in
//     listings. record_time is null when the record has no timestamp (-1) or one no
//     Go client can tell apart; the statement always has it in full.
//   - The partition of a row is the month of its record timestamp in UTC; what is
//     outside [2020, 2100) is in events_odd, under month 1970-01-01. Partitions are
//     made when first needed, by a function of the owner's.
//   - Genesis and close rows have no tenant and no projected columns.
//   - A primary key that is taken cannot happen in regular work. If the row there has
//     the same statement, salt and frame, the record counts as stored. If not, it is a
//     bug or tampering: the ledger's record goes to the rejects topic with reason
//     "conflict", an alarm is raised, the row stays as it is for verify to name.
//   - Everything Kafka can carry has a row. What is refused, a constraint or trigger
//     that somebody added refuses.
package postgres
