package cloudtrail

import "strings"

// categories finds event.category and event.type: what kind of thing the service
// keeps, and what the verb in the event's name does to it. Every pair is one that ECS
// expects. A call that was denied is said to be one, as an API call.
func (r *record) categories() (category, types []string) {
	category, types = r.kind()
	if denied(string(r.ErrorCode)) {
		if category[0] != "api" {
			category = append(category, "api")
		}
		types = append(types, "denied")
	}
	return category, types
}

// denied tells the error codes of a refusal by authorization.
func denied(code string) bool {
	for _, part := range [...]string{"AccessDenied", "Unauthorized", "UnauthorizedOperation", "NotAuthorized", "Forbidden"} {
		if strings.Contains(code, part) {
			return true
		}
	}
	return false
}

func (r *record) kind() (category, types []string) {
	name, service := string(r.EventName), r.service()
	switch service {
	case "signin":
		switch name {
		case "ConsoleLogin", "SwitchRole", "CheckMfa", "UserAuthentication", "CredentialVerification":
			return []string{"authentication"}, []string{map[bool]string{true: "start", false: "info"}[name == "ConsoleLogin" || name == "SwitchRole"]}
		case "ExitRole", "Logout":
			return []string{"session"}, []string{"end"}
		}
		return []string{"authentication"}, []string{"info"}
	case "sts":
		if strings.HasPrefix(name, "AssumeRole") || name == "GetSessionToken" || name == "GetFederationToken" {
			return []string{"authentication"}, []string{"start"}
		}
		return []string{"authentication"}, []string{"info"}
	case "iam", "sso", "sso-directory", "identitystore", "rolesanywhere", "cognito-idp":
		return []string{"iam"}, iamTypes(name)
	case "s3", "s3express", "elasticfilesystem", "glacier":
		if strings.Contains(name, "Object") || strings.Contains(name, "Upload") {
			return []string{"file"}, []string{verb(name)}
		}
	case "dynamodb", "rds-data", "redshift-data", "athena", "timestream", "neptune-db":
		if v := verb(name); v == "access" {
			return []string{"database"}, []string{"access"}
		}
		return []string{"database"}, []string{"change"}
	case "ssm":
		switch name {
		case "StartSession", "ResumeSession":
			return []string{"session"}, []string{"start"}
		case "TerminateSession":
			return []string{"session"}, []string{"end"}
		case "SendCommand":
			return []string{"process"}, []string{"start"}
		}
	case "ec2":
		switch name {
		case "RunInstances", "StartInstances":
			return []string{"host"}, []string{"start"}
		case "StopInstances", "TerminateInstances":
			return []string{"host"}, []string{"end"}
		}
	}
	return general(name)
}

// general takes calls that read for API calls, and the others for what they do to the
// account's configuration.
func general(name string) (category, types []string) {
	v := verb(name)
	if v == "access" {
		return []string{"api"}, []string{"access"}
	}
	return []string{"configuration"}, []string{v}
}

// iamTypes says what was done to whom.
func iamTypes(name string) []string {
	v := verb(name)
	if v == "access" {
		v = "info"
	}
	switch {
	case strings.Contains(name, "Group"):
		return []string{"group", v}
	case strings.Contains(name, "User"), strings.Contains(name, "LoginProfile"), strings.Contains(name, "AccessKey"), strings.Contains(name, "MFADevice"), strings.Contains(name, "Password"):
		return []string{"user", v}
	}
	return []string{"admin", v}
}

// verb reads what a name begins with: access, creation, deletion, or change for the rest.
func verb(name string) string {
	for _, v := range [...]struct {
		kind     string
		prefixes []string
	}{
		{"access", []string{"Get", "List", "Describe", "BatchGet", "Head", "Lookup", "Search", "Query", "Scan", "Select", "Filter", "Invoke", "Converse", "Decrypt", "View", "Preview", "Simulate", "Test", "Check", "Validate", "Download", "Discover", "Retrieve", "Read", "Estimate", "Generate"}},
		{"creation", []string{"Create", "Run", "Allocate", "Import", "Register", "Issue", "Provision", "Launch", "Clone", "Copy", "Restore", "Upload"}},
		{"deletion", []string{"Delete", "Remove", "Terminate", "Deregister", "Purge", "Destroy", "Release", "BatchDelete"}},
	} {
		for _, p := range v.prefixes {
			if rest, ok := strings.CutPrefix(name, p); ok && (rest == "" || rest[0] < 'a' || rest[0] > 'z') {
				return v.kind
			}
		}
	}
	return "change"
}
