// Package faults breaks a running Sealstream on purpose and says whether it kept its
// promises: kill -9 of everything and of single stages, stages that sleep past their
// session, databases that stop or fill up, records that the database refuses. On real
// Apache Kafka it breaks brokers, coordinators and the network, too, and holds the time
// until all goes on against what users are promised.
//
// It has three parts. The oracle ([Judge]) is pure: given what the source log, the
// sealed topics and the table hold, it says what was lost, doubled, reordered, altered
// or stored ahead of its offset. It trusts neither the stages nor `sealstream verify`,
// which runs beside it. The watch measures how long each take-over took. The cases
// drive the real binary; each has a seed that repeats its choices, a time that bounds
// it, and fails if its fault never struck.
//
// It is no part of the product and no ordinary test either: the command in
// cmd/faults runs the cases (make faults and make faults-short; on Kafka make chaos and
// make chaos-short), the tests here prove that the oracle finds what it must find.
package faults
