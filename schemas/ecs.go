package schemas

import (
	"slices"
	"strings"
)

// ECSVersion is the version of the Elastic Common Schema whose names and values this
// package speaks.
const ECSVersion = "9.4.0"

// expectedTypes is the table of ECS 9.4: which event.type goes with which
// event.category (expected_event_types of event.category in
// github.com/elastic/ecs, generated/ecs/ecs_flat.yml). nil: no such category.
func expectedTypes(category string) []string {
	switch category {
	case "api":
		return []string{"access", "admin", "allowed", "change", "creation", "deletion", "denied", "end", "info", "start", "user"}
	case "authentication":
		return []string{"start", "end", "info"}
	case "configuration":
		return []string{"access", "change", "creation", "deletion", "info"}
	case "database":
		return []string{"access", "change", "info", "error"}
	case "driver":
		return []string{"change", "end", "info", "start"}
	case "email":
		return []string{"info"}
	case "file":
		return []string{"access", "change", "creation", "deletion", "info"}
	case "host":
		return []string{"access", "change", "end", "info", "start"}
	case "iam":
		return []string{"admin", "change", "creation", "deletion", "group", "info", "user"}
	case "intrusion_detection":
		return []string{"allowed", "denied", "info"}
	case "library":
		return []string{"start"}
	case "malware":
		return []string{"info"}
	case "network":
		return []string{"access", "allowed", "connection", "denied", "end", "info", "protocol", "start"}
	case "package":
		return []string{"access", "change", "deletion", "info", "installation", "start"}
	case "process":
		return []string{"access", "change", "end", "info", "start"}
	case "registry":
		return []string{"access", "change", "creation", "deletion"}
	case "session":
		return []string{"start", "end", "info"}
	case "threat":
		return []string{"indicator"}
	case "vulnerability":
		return []string{"info"}
	case "web":
		return []string{"access", "error", "info"}
	}
	return nil
}

// Categories lists the values of event.category.
func Categories() []string {
	return []string{"api", "authentication", "configuration", "database", "driver", "email", "file", "host", "iam",
		"intrusion_detection", "library", "malware", "network", "package", "process", "registry", "session", "threat",
		"vulnerability", "web"}
}

// Kinds lists the values of event.kind.
func Kinds() []string {
	return []string{"alert", "asset", "enrichment", "event", "metric", "pipeline_error", "signal", "state"}
}

// Outcomes lists the values of event.outcome.
func Outcomes() []string { return []string{"failure", "success", "unknown"} }

// checkCategories holds an event to the table: each type must go with one of the
// event's categories at least, and each category with one of its types. (An event of
// the categories iam and configuration may say both "user" and "access".)
func checkCategories(categories, types []string) *FieldError {
	for _, c := range categories {
		if expectedTypes(c) == nil {
			return &FieldError{Field: "event.category", Problem: quoted(c) + " is no category of ECS " + ECSVersion, Fix: "use one of " + strings.Join(Categories(), ", ")}
		}
	}
	if len(types) > 0 && len(categories) == 0 {
		return &FieldError{Field: "event.category", Problem: "missing, though event.type is given", Fix: "give the category the type belongs to"}
	}
	for _, t := range types {
		if !slices.ContainsFunc(categories, func(c string) bool { return slices.Contains(expectedTypes(c), t) }) {
			return &FieldError{
				Field:   "event.type",
				Problem: quoted(t) + " does not go with event.category " + strings.Join(categories, ", ") + " in ECS " + ECSVersion,
				Fix:     "use one of " + strings.Join(allowedTypes(categories), ", ") + ", or another category",
			}
		}
	}
	for _, c := range categories {
		if len(types) > 0 && !slices.ContainsFunc(types, func(t string) bool { return slices.Contains(expectedTypes(c), t) }) {
			return &FieldError{
				Field:   "event.category",
				Problem: quoted(c) + " goes with none of event.type " + strings.Join(types, ", ") + " in ECS " + ECSVersion,
				Fix:     "add one of " + strings.Join(expectedTypes(c), ", ") + " to event.type, or leave the category out",
			}
		}
	}
	return nil
}

func allowedTypes(categories []string) []string {
	var out []string
	for _, c := range categories {
		out = append(out, expectedTypes(c)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// quoted shows a value of a closed list in an error, bounded.
func quoted(s string) string {
	if len(s) > 32 {
		s = s[:32] + "..."
	}
	return strings.ToValidUTF8("\""+s+"\"", "?")
}
