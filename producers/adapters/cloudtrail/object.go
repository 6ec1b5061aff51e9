package cloudtrail

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/sealstream/sealstream/schemas"
)

// objectParameters are the request parameters that name what is acted upon, the more
// telling first, and what kind of thing they name.
func objectParameters() []struct{ name, kind string } {
	return []struct{ name, kind string }{
		{"secretId", "secret"}, {"key", "file"}, {"bucketName", "bucket"}, {"accessKeyId", "access_key"},
		{"userName", "user"}, {"groupName", "group"}, {"roleName", "role"}, {"roleArn", "role"},
		{"instanceProfileName", "instance_profile"}, {"policyArn", "policy"}, {"policyName", "policy"},
		{"instanceId", "instance"}, {"target", "instance"}, {"snapshotId", "snapshot"}, {"imageId", "image"}, {"volumeId", "volume"},
		{"groupId", "security_group"}, {"vpcId", "vpc"}, {"subnetId", "subnet"}, {"flowLogId", "flow_log"}, {"keyName", "key_pair"},
		{"functionName", "function"}, {"trailName", "trail"}, {"keyId", "key"}, {"tableName", "table"},
		{"dBInstanceIdentifier", "database"}, {"dBClusterIdentifier", "database"}, {"dBSnapshotIdentifier", "snapshot"},
		{"logGroupName", "log_group"}, {"streamName", "stream"}, {"topicArn", "topic"}, {"queueUrl", "queue"},
		{"stackName", "stack"}, {"clusterName", "cluster"}, {"repositoryName", "repository"}, {"hostedZoneId", "hosted_zone"},
		{"detectorId", "detector"}, {"configRuleName", "config_rule"}, {"resolverQueryLogConfigId", "query_log_config"},
		{"modelId", "model"}, {"documentName", "document"}, {"sessionId", "session"}, {"commandId", "command"},
		{"accountId", "account"}, {"organizationId", "organization"}, {"resourceArn", "resource"}, {"arn", "resource"},
		{"name", ""}, {"id", ""},
	}
}

// object says what was acted upon: the first resource that CloudTrail lists, else the
// most telling request parameter.
func (r *record) object() *schemas.AuditObject {
	for _, res := range r.Resources {
		if res.ARN == "" {
			continue
		}
		kind := r.plainKind()
		if res.Type != "" {
			kind = kindName(string(res.Type))
		}
		return &schemas.AuditObject{Type: keyword(loose(kind)), ID: keyword(res.ARN), Name: keyword(loose(lastPart(string(res.ARN)))), Tenant: keyword(res.AccountID)}
	}
	params := r.parameters()
	for _, p := range objectParameters() {
		value, ok := params[strings.ToLower(p.name)]
		if !ok || value == "" {
			continue
		}
		kind := p.kind
		if kind == "" {
			kind = r.plainKind()
		}
		name := string(value)
		if strings.HasPrefix(name, "arn:") {
			name = lastPart(name)
		}
		return &schemas.AuditObject{Type: &kind, ID: keyword(value), Name: keyword(loose(name))}
	}
	return nil
}

// plainKind is what a service's things are called when nothing says more.
func (r *record) plainKind() string {
	switch s := r.service(); s {
	case "cloudtrail":
		return "trail"
	case "ssm":
		return "parameter"
	case "sts":
		return "session"
	default:
		return s
	}
}

// kindName turns "AWS::IAM::AccessKey" into "access_key", as the parameters name it.
func kindName(s string) string {
	s = s[strings.LastIndexByte(s, ':')+1:]
	var b strings.Builder
	for i, c := range s {
		if i > 0 && unicode.IsUpper(c) && unicode.IsLower(rune(s[i-1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// target names the user or group that identity management acted upon.
func (r *record) target(e *schemas.AuditEvent) {
	if r.service() != "iam" {
		return
	}
	params := r.parameters()
	if name := keyword(params["username"]); name != nil {
		if e.User == nil {
			e.User = new(schemas.AuditUser)
		}
		e.User.Target = &schemas.AuditOtherUser{Name: name}
		if to := keyword(params["newusername"]); to != nil {
			e.User.Changes = &schemas.AuditOtherUser{Name: to}
		}
	}
	if name := keyword(params["groupname"]); name != nil {
		e.Group = &schemas.AuditGroup{Name: name}
	}
}

// maxParameters bounds how many request parameters are looked at.
const maxParameters = 256

// parameters lists the scalar request parameters by their names in lower case. EC2
// wraps its own in one object, or in {"items": [{...}]}: those are looked into, too.
func (r *record) parameters() map[string]loose {
	out := map[string]loose{}
	gather(out, r.RequestParameters, 3)
	return out
}

func gather(out map[string]loose, raw json.RawMessage, depth int) {
	var members map[string]json.RawMessage
	if depth == 0 || json.Unmarshal(raw, &members) != nil {
		return
	}
	// In order, so that the same bytes always give the same answer; what stands nearest
	// to the top first.
	names := slices.Sorted(maps.Keys(members))
	for _, name := range names {
		if value := members[name]; len(value) > 0 && value[0] != '{' && value[0] != '[' {
			put(out, strings.ToLower(name), value)
		}
	}
	for _, name := range names {
		nested(out, strings.ToLower(name), members[name], depth)
	}
}

// nested looks into an object, the first of "items", and the first of a list in the
// plural ("instanceIds").
func nested(out map[string]loose, key string, value json.RawMessage, depth int) {
	if len(value) == 0 {
		return
	}
	switch value[0] {
	case '{':
		gather(out, value, depth-1)
	case '[':
		var items []json.RawMessage
		if json.Unmarshal(value, &items) != nil || len(items) == 0 {
			return
		}
		if key == "items" {
			gather(out, items[0], depth)
		} else if single, plural := strings.CutSuffix(key, "s"); plural {
			put(out, single, items[0])
		}
	}
}

// put keeps the first value of a name.
func put(out map[string]loose, key string, value json.RawMessage) {
	var s loose
	_ = s.UnmarshalJSON(value) // never fails
	if _, ok := out[key]; !ok && s != "" && len(out) < maxParameters {
		out[key] = s
	}
}

// lastPart is what an ARN ends with, behind its last slash or colon.
func lastPart(arn string) string { return arn[strings.LastIndexAny(arn, ":/")+1:] }
