// Package boundary holds the house rules as tests: who may import what, how long a
// file or a function may be, what a test may not do, and that the documents name only
// tests, files and commands that exist.
//
// It has no code of its own and nothing imports it. The rules are tables at the top
// of the test files; a rule that must change is changed there, with the reason beside
// it, and the checkers themselves are tested against small trees that break each rule.
package boundary
