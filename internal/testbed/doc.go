// Package testbed starts and stops what tests of the whole program need: the
// sealstream binary, built once a run, and the processes made from it, `up` above all;
// and the real servers and foreign programs it is tried against: Apache Kafka, Apicurio,
// Java, Python. Those are fetched by Maven and pip as the machine has them set up, and
// kept in the user's cache.
//
// Everything a [Bed] starts is stopped by its pid when the bed is closed, and ends by
// itself should the test program be killed; everything it writes lies below one
// temporary directory, which is removed unless its logs are wanted. It knows nothing
// about events or ledgers, judges nothing, and is for tests only: internal/faults and
// the tests of cmd/sealstream use it.
package testbed
