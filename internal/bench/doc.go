// Package bench measures how fast Sealstream is and what it costs: rates of its stages,
// one by one and as a whole, CPU seconds per million records, memory, start times. It
// prints a Markdown table that names the machine, the commit and the commands.
//
// It judges nothing and no test depends on it: figures depend on the machine and on who
// else uses it. What it measures it counts for certain: each figure of the path is taken
// when the last row is stored, and the rows are counted afterwards. It runs the real
// binary by internal/testbed and stops whatever it started. `make bench` is its user.
package bench
