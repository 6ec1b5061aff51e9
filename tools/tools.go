// Package tools pins what developers of Sealstream run but its users never need: the
// generator of the Go types in ../schemas, the linter and the vulnerability checker.
// A module of its own keeps them out of the product's go.mod. Nothing imports it; run
// them with
//
//	go -C tools tool avrogen -h
//	go -C tools tool staticcheck -h
//	go -C tools tool govulncheck -h
//
// or `go generate ./schemas`. Its test fails when the generated types are stale.
package tools
