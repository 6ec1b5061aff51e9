package auth

import (
	"fmt"
	"slices"
	"strings"
)

// Role is what an organisation hands out. A token may carry several, as far as
// [Exclusive] lets it.
type Role string

// The roles. Unknown ones in a token grant nothing.
const (
	Ingest     Role = "ingest"     // applications and collectors that send events
	Analyst    Role = "analyst"    // looks into events of a tenant
	Auditor    Role = "auditor"    // judges evidence, checks commitments with salts
	Operator   Role = "operator"   // keeps the pipeline running
	Compliance Role = "compliance" // holds, reports, disclosures
	Privacy    Role = "privacy"    // erasure and subject requests
	Admin      Role = "admin"      // configuration and keys; reads no event content
)

// Permission is what a route asks for.
type Permission string

// The permissions. Open is for routes without a principal.
const (
	Open             Permission = ""
	EventsWrite      Permission = "events:write"
	EventsRead       Permission = "events:read"       // event content, frames and statements
	EventsMismatched Permission = "events:mismatched" // events whose payload claims another tenant
	SaltsRead        Permission = "salts:read"        // with a salt, guesses at erased content can be tested
	LedgersRead      Permission = "ledgers:read"
	MetricsRead      Permission = "metrics:read" // metrics and the details of readiness
	VerifyRun        Permission = "verify:run"   // verifications: starting, cancelling, their findings
)

// Roles lists every role.
func Roles() []Role {
	return []Role{Ingest, Analyst, Auditor, Operator, Compliance, Privacy, Admin}
}

// Permissions lists every permission that a route or an answer can ask for.
func Permissions() []Permission {
	return []Permission{EventsWrite, EventsRead, EventsMismatched, SaltsRead, LedgersRead, MetricsRead, VerifyRun}
}

// Grants is the table: what a role may do. What is not in it is denied.
func Grants(r Role) []Permission {
	switch r {
	case Ingest:
		return []Permission{EventsWrite}
	case Analyst:
		return []Permission{EventsRead, LedgersRead}
	case Auditor:
		return []Permission{EventsRead, SaltsRead, LedgersRead, VerifyRun}
	case Operator:
		return []Permission{EventsRead, EventsMismatched, LedgersRead, MetricsRead, VerifyRun}
	case Compliance:
		return []Permission{EventsRead, LedgersRead}
	case Privacy:
		return []Permission{EventsRead, LedgersRead}
	case Admin:
		return []Permission{LedgersRead, MetricsRead}
	}
	return nil
}

// Exclusive is the separation of duty: pairs of roles that one token must not
// join. A token that does is refused as a whole, not cut down, so that the mistake
// is seen where roles are given out. The reasons:
//   - auditor judges what ingest wrote and what operator and admin run;
//   - compliance places holds, privacy erases: each is the other's check;
//   - admin holds keys, so it takes no part in holds or erasure.
func Exclusive() [][2]Role {
	return [][2]Role{
		{Auditor, Ingest},
		{Auditor, Operator},
		{Auditor, Admin},
		{Compliance, Privacy},
		{Compliance, Admin},
		{Privacy, Admin},
	}
}

// ParseRole takes the name of a known role.
func ParseRole(s string) (Role, error) {
	if slices.Contains(Roles(), Role(s)) {
		return Role(s), nil
	}
	names := make([]string, 0, len(Roles()))
	for _, r := range Roles() {
		names = append(names, string(r))
	}
	return "", fmt.Errorf("role %.32q: want one of %s", s, strings.Join(names, ", "))
}

// conflict returns the first pair of roles that must not be held together.
func conflict(roles []Role) (pair [2]Role, found bool) {
	for _, p := range Exclusive() {
		if slices.Contains(roles, p[0]) && slices.Contains(roles, p[1]) {
			return p, true
		}
	}
	return pair, false
}

// permissionSet has one bit per entry of Permissions.
type permissionSet uint32

func grantsOf(roles []Role) permissionSet {
	var set permissionSet
	for _, r := range roles {
		for _, p := range Grants(r) {
			set |= bit(p)
		}
	}
	return set
}

// has is false for permissions that are not in the list, Open included: deny by default.
func (s permissionSet) has(p Permission) bool { return s&bit(p) != 0 }

func bit(p Permission) permissionSet {
	i := slices.Index(Permissions(), p)
	if i < 0 {
		return 0
	}
	return 1 << i
}
