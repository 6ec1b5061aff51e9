package schemas

// ProjectionVersion is the projection that new rows are made with. A row keeps the
// version it was made with, so that verify can derive each column again: once
// released, a version's table and rules never change; a new one is added beside it.
const ProjectionVersion = 1

// ColumnType is how a column holds its value.
type ColumnType uint8

// The column types. In a [Value]: Text is Text, TextList is List, Int is Int, Bool is
// Int (0 or 1), TimeMs is Int (milliseconds since 1970, years 0001 to 9999).
const (
	Text ColumnType = iota
	TextList
	Int
	Bool
	TimeMs
)

// String returns the type's name as the documentation prints it.
func (t ColumnType) String() string {
	switch t {
	case Text:
		return "text"
	case TextList:
		return "text list"
	case Int:
		return "integer"
	case Bool:
		return "boolean"
	case TimeMs:
		return "time"
	}
	return "unknown"
}

// Column is one projected column.
type Column struct {
	Name string // the ECS path with its dots as underscores
	Path string // the ECS path
	Type ColumnType
	Max  int // longest Text in bytes, longest element of a TextList; longer ones are cut
}

// Bounds of what a projection keeps, so that every value fits an index entry of the
// stores behind it (PostgreSQL's is about 2,700 bytes).
const (
	MaxKeyword = 1024 // bytes of one keyword
	MaxProse   = 8192 // bytes of message, event.reason and user_agent.original
	MaxList    = 64   // elements of one list
)

// Fields is what a projection makes of one value. It is meant to be used again for
// the next value: Values keeps its memory.
type Fields struct {
	Time    int64   // "@timestamp" in milliseconds since 1970
	HasTime bool    // false: no "@timestamp", or none in the years 0001 to 9999
	Values  []Value // parallel to Columns(version)
}

// Value is one column's value; which member holds it is the column's type. Unset
// means null.
type Value struct {
	Set  bool
	Text string
	Int  int64
	List []string
}

// Columns returns the table of a projection version, nil for a version that never was.
// The slice is the caller's.
func Columns(version int) []Column {
	if version != 1 {
		return nil
	}
	return columnsV1()
}

// columnsV1 is frozen with the first release: see [ProjectionVersion].
func columnsV1() []Column {
	kw := func(name, path string) Column { return Column{Name: name, Path: path, Type: Text, Max: MaxKeyword} }
	prose := func(name, path string) Column { return Column{Name: name, Path: path, Type: Text, Max: MaxProse} }
	list := func(name, path string) Column { return Column{Name: name, Path: path, Type: TextList, Max: MaxKeyword} }
	num := func(name, path string) Column { return Column{Name: name, Path: path, Type: Int} }
	flag := func(name, path string) Column { return Column{Name: name, Path: path, Type: Bool} }
	at := func(name, path string) Column { return Column{Name: name, Path: path, Type: TimeMs} }
	return []Column{
		kw("event_id", "event.id"),
		kw("event_kind", "event.kind"),
		list("event_category", "event.category"),
		list("event_type", "event.type"),
		kw("event_action", "event.action"),
		kw("event_outcome", "event.outcome"),
		prose("event_reason", "event.reason"),
		kw("event_code", "event.code"),
		kw("event_dataset", "event.dataset"),
		kw("event_module", "event.module"),
		kw("event_provider", "event.provider"),
		num("event_severity", "event.severity"),
		at("event_created", "event.created"),
		kw("organization_id", "organization.id"), // a claim of the payload, never the row's tenant
		kw("user_id", "user.id"),
		kw("user_name", "user.name"),
		kw("user_email", "user.email"),
		kw("user_domain", "user.domain"),
		kw("user_effective_id", "user.effective.id"),
		kw("user_target_id", "user.target.id"),
		kw("user_target_name", "user.target.name"),
		kw("client_user_email", "client.user.email"),
		kw("group_id", "group.id"),
		kw("group_name", "group.name"),
		kw("service_name", "service.name"),
		kw("source_ip", "source.ip"), // text: it may hold ciphertext
		kw("source_address", "source.address"),
		prose("user_agent_original", "user_agent.original"),
		kw("host_name", "host.name"),
		kw("cloud_provider", "cloud.provider"),
		kw("cloud_account_id", "cloud.account.id"),
		kw("cloud_region", "cloud.region"),
		kw("cloud_service_name", "cloud.service.name"),
		kw("audit_actor_type", "audit.actor.type"),
		flag("audit_actor_is_privileged", "audit.actor.is_privileged"),
		flag("audit_actor_mfa", "audit.actor.mfa"),
		kw("audit_actor_session_id", "audit.actor.session_id"),
		kw("audit_actor_credential_id", "audit.actor.credential_id"),
		kw("audit_object_type", "audit.object.type"),
		kw("audit_object_id", "audit.object.id"),
		kw("audit_object_name", "audit.object.name"),
		kw("audit_change_ticket", "audit.change.ticket"),
		num("audit_data_rows", "audit.data.rows"),
		kw("audit_data_purpose", "audit.data.purpose"),
		kw("trace_id", "trace.id"),
		kw("http_request_id", "http.request.id"),
		kw("http_request_method", "http.request.method"),
		num("http_response_status_code", "http.response.status_code"),
		kw("url_path", "url.path"),
		kw("error_code", "error.code"),
		kw("aggregate_type", "aggregate.type"),
		kw("aggregate_id", "aggregate.id"),
		num("aggregate_version", "aggregate.version"),
		kw("correlation_id", "correlation.id"),
		kw("causation_id", "causation.id"),
		prose("message", "message"),
	}
}
