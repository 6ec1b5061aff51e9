// Package stream is the Kafka edge: everything between the pure stages and the
// brokers, and the only importer of the Kafka client outside producers/ and cmd/.
//
// It runs a [processors.Processor] exactly once from topic to topic ([RunFold]),
// feeds sinks ([RunDelivery]), reads partitions for verification ([Reader]), makes
// and checks topics ([EnsureTopics]) and keeps the alarms that /readyz shows
// ([Alarms]). It decides nothing about evidence: what a head means, whether an
// output may go on, is the processor's word.
//
// What makes exactly-once true here, each learned the hard way:
//
//   - The output topic is the only truth for a partition's state. It is read back
//     on every assignment, after all transactions on it are decided (LSO first, then
//     HWM, until equal: markers of one transaction land at different times). The
//     group offset is a cross-check only.
//   - Static members with stable transactional ids per slot, and the producer id
//     asked for early and in a loop, end a dead owner's transaction at once. An
//     owner that is gone for good is fenced by its transactional id.
//   - Any error of a transaction's end throws the client away: a new session reads
//     the log and knows.
//   - The embedded broker forgets open transactions when it is killed, so there the
//     transactional id carries the broker's boot and no connection of an old client
//     ever reaches a newer boot (see boot.go).
package stream
