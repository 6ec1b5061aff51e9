// Package operate does to a real Apache Kafka what its operators will do, or what will
// happen to them, under a running installation: partitions added, retention that passes
// the seal, topics made anew, a rolling restart, the wrong cluster. Each test drives the
// binary as an operator does and ends with what verify says. It has only tests, and
// `make integration` runs them.
package operate
