// Package ledger is Sealstream's tamper-evident format, SEALST01: the statements that
// are hashed, the chain that makes them, and the verifier that judges them.
//
// It is pure. It has no clock, no network, no files, no goroutines and no Kafka; it
// imports the standard library only. What it is not: it signs nothing and keeps
// nothing. The Merkle tree over the same leaf hashes, checkpoints and proofs belong to
// the notary. It is used by processors/seal ([Start], [Resume], [Chain]), by the sinks
// ([Open], [AppendFrame]), and by internal/verify ([Verifier]).
//
// docs/ledger-format.md is the normative text, with the reasons; testdata holds vectors
// and check.py, a second implementation in Python. This comment is enough to write a
// third. All integers are big-endian; || joins; "text" is ASCII without a terminator.
//
// # Sealed records
//
// A sealed record is a source record with one header more at the end: name "seal",
// value = statement (200 bytes) when its salt key id is 0, else statement || salt (216
// bytes). The last header is the seal and no other is, whatever its name.
//
// # Statement
//
//	  0   8  "SEALST01"
//	  8   1  kind: 1 genesis, 2 event, 3 close
//	  9   1  suite: 1 (SHA-256)
//	 10   2  flags: bit 0 the source record carries LogAppendTime (events only);
//	         bit 1 the genesis says "fields event-id"; the others are zero
//	 12   4  source partition, below 2^31
//	 16  16  ledger id
//	 32   8  seq, below 2^63; 0 in a genesis and nowhere else
//	 40  32  prev: leaf hash of seq-1; zeros at seq 0
//	 72   8  record timestamp, int64 milliseconds; a magnitude above 9,223,372,036,854 is
//	         written as -2^63 and in no other way; -1 in genesis and close
//	 80   4  source leader epoch, int32; -1 in genesis and close
//	 84   4  zero
//	 88  16  source topic id, not zero
//	104   8  source offset, below 2^63
//	112  16  event-id slot; zero in genesis and close
//	128  32  zero
//	160  32  commitment
//	192   4  zero
//	196   4  salt key id; 0 is unsalted; 0 in genesis and close
//
//	leaf hash = SHA-256(0x00 || statement), the leaf of an RFC 6962 tree
//
// # Commitment
//
//	frame      = N(key) || u32 count || count x (u32 length || name || N(value)) || N(record value)
//	N(x)       = FF FF FF FF for null, else u32 length || x
//	commitment = SHA-256("SEALST01/payload" || salt || frame)
//
// over the source record: the seal header is not in its own frame. An unsalted
// statement has a salt of 16 zero bytes. The salt of the others is
//
//	sub  = HMAC-SHA256(master of the salt key id, "SEALST01/saltkey" || ledger id || u32 salt key id)
//	salt = AES-256(sub, u64 0 || u64 seq), one block
//
// The event-id slot of an event is zero, unless flags bit 1 is set and the salt key id
// is not 0 and the record has exactly one header "ce_id" and its value is a UUID in
// canonical lower-case text with version 4 or 7 and variant binary 10: then it is that
// UUID.
//
// # Genesis and close
//
// A genesis is a sealed record with null key, null value and two headers: "genesis" =
// its body, then the seal. Its body has exactly these lines, each ending in LF:
//
//	sealstream/genesis/v1
//	name [a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._~-]+)*          at most 200 bytes
//	cluster [A-Za-z0-9._-]{1,128}
//	source <topic name>
//	source-id <topic id, a lower-case hyphenated UUID, not zero>
//	partition <decimal below 2^31>
//	start <decimal below 2^63>
//	fields none|event-id
//	previous none|<ledger id> <size> <base64 leaf hash>
//
// Decimals have no sign and no leading zeros, ledger ids are 32 lower-case hexadecimal
// digits, base64 is standard with padding, a size is at least 1 and below 2^63.
//
//	ledger id = first 16 bytes of SHA-256("SEALST01/genesis" || body)
//
// The genesis statement has this ledger id, the partition, topic id and flags bit 1 that
// the body says, and the body's start as source offset.
//
// A close is the same with the header "close" = the genesis body of the successor. That
// body's previous names the ledger that is closed: its id, the seq of the close as size,
// the prev of the close as leaf hash; and it has the same partition.
//
// # Order
//
// A sealed partition holds the records of one ledger after the other. In one ledger seq
// counts up by one and each prev is the leaf hash of the record before. Source
// partition, topic id and flags bit 1 stay what the genesis says. next is the source
// offset at which sealing goes on: a genesis's own, an event's plus one. The source
// offset of an event is at least next of the record before; that of a close is exactly
// that. The salt key id never falls from event to event. A close is the last record of
// its ledger, and the next record is the genesis that it announces. The timestamp of
// the sealed record is the statement's; where that is -2^63, the two are not compared.
//
// # Verdicts
//
// [Verifier] reads a sealed partition from its start and reports one [Finding] for one
// altered, missing or surplus record. ALTERED is a record that is not as it was sealed;
// GAP is records missing between others, with their number; FORK is a second record of a
// seq; EXTRA is a record that does not belong where it stands; MISSING is the genesis
// that a close at the end announces. The rules that keep one cause at one finding:
//
//  1. Placing. A record whose prev is the leaf hash of the last record stands behind it,
//     and if its seq or ledger id say otherwise these were altered. Else its ledger id
//     and seq place it. A genesis whose commitment holds is placed by its body.
//  2. A record without a readable statement is ALTERED and stands in for the next seq:
//     the record behind it may continue with that seq or with the one after, and its
//     prev is then not checked.
//  3. What is wrong with a record by itself is ALTERED at once: its commitment, salt,
//     event-id slot, timestamp, and what differs from the genesis.
//  4. A statement that contradicts the one before it (prev, falling offset, falling salt
//     key id) is a doubt: either of the two was altered. The record after them decides.
//     If its prev is the leaf hash of the second, the second is as it was sealed, and
//     the first is ALTERED; otherwise the second is, which explains this broken link
//     too. A record that has a finding gets no other. A genuine close decides by itself,
//     because its body repeats its prev. At the end of the partition nothing decides:
//     then the finding is about the second and says that it may be the first. Of two
//     neighbours whose statements were both altered, and that are right otherwise, the
//     second is reported.
//  5. Records behind a jump of seq are taken as they come. One that fills the gap later
//     is EXTRA, as out of order; those linked behind it are counted with it.
//  6. A second record of a seq is a FORK, each of them. Which of the two is the true one
//     is not judged, and whichever branch goes on is followed.
//  7. A record behind a close that is not the announced genesis is EXTRA. So is the first
//     record of a ledger that neither a close nor a genesis's previous leads to; what
//     follows on it is checked in that ledger, and not reported again for being there.
//  8. A genesis whose previous names a ledger that was not closed shows how many records
//     of that one are missing, the close among them: one GAP.
//  9. A close that announces a ledger of the same source topic with a later start than
//     where it stands itself is a GAP of that ledger: the source had lost the offsets
//     between before they were sealed.
//
// # What the chain cannot see
//
// Whoever may write the sealed topic can append a perfect next statement: FORK appears
// only when the seal writes its own. Records cut off at the end leave a shorter ledger
// that is right: compare [LedgerState] with a head remembered elsewhere. In the newest
// record, leader epoch, LogAppendTime, a higher source offset, and a salt key id whose
// master is not held, can be altered unseen, for nothing stands behind it; the leaf hash
// changes with them. Whether a source record was skipped can be told from the source
// only. The notary answers these with signed heads.
package ledger
