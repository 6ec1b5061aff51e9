// Package producers writes events to Kafka the way the rest of Sealstream expects
// them: acknowledged by all replicas, under a key that keeps one actor's or one
// aggregate's events in order, with CloudEvents headers.
//
// A [Producer] is what the API, `sealstream ingest` and `sealstream generate` share;
// Go programs may use it as a client library. It has no opinion about what a value
// holds: values go out byte for byte, validation is the caller's, with package
// schemas. It is not needed to feed Sealstream: any Kafka client in any language may
// write to the event topics.
//
// Promise: when a [Result] has no error, the record is in the log of the topic, and
// on disk when [Options].Barrier is set. A result with an error that says the record
// may have been stored (see [MaybeStored]) leaves that open: sending it again may
// double it. Within one Producer the records of one key stay in order.
package producers
