package cloudtrail

import (
	"bytes"
	"encoding/json"
	"strings"
)

// record is what is read of a CloudTrail record. The format has grown for ten years and
// differs from service to service, so every member may be missing or of another type:
// then it is as if it were not there.
type record struct {
	UserIdentity        object[identity] `json:"userIdentity"`
	EventTime           loose            `json:"eventTime"`
	EventSource         loose            `json:"eventSource"`
	EventName           loose            `json:"eventName"`
	AWSRegion           loose            `json:"awsRegion"`
	SourceIPAddress     loose            `json:"sourceIPAddress"`
	UserAgent           loose            `json:"userAgent"`
	ErrorCode           loose            `json:"errorCode"`
	ErrorMessage        loose            `json:"errorMessage"`
	RequestParameters   json.RawMessage  `json:"requestParameters"`
	ResponseElements    json.RawMessage  `json:"responseElements"`
	AdditionalEventData object[extra]    `json:"additionalEventData"`
	RequestID           loose            `json:"requestID"`
	EventID             loose            `json:"eventID"`
	EventType           loose            `json:"eventType"`
	ReadOnly            loose            `json:"readOnly"`
	Resources           list[resource]   `json:"resources"`
	RecipientAccountID  loose            `json:"recipientAccountId"`
}

type identity struct {
	Type           loose           `json:"type"`
	PrincipalID    loose           `json:"principalId"`
	ARN            loose           `json:"arn"`
	AccountID      loose           `json:"accountId"`
	AccessKeyID    loose           `json:"accessKeyId"`
	CredentialID   loose           `json:"credentialId"`
	UserName       loose           `json:"userName"`
	InvokedBy      loose           `json:"invokedBy"`
	SessionContext object[session] `json:"sessionContext"`
	OnBehalfOf     object[behalf]  `json:"onBehalfOf"`
}

type session struct {
	Attributes object[attributes] `json:"attributes"`
	Issuer     object[issuer]     `json:"sessionIssuer"`
}

type attributes struct {
	MFA loose `json:"mfaAuthenticated"`
}

type issuer struct {
	PrincipalID loose `json:"principalId"`
	ARN         loose `json:"arn"`
	UserName    loose `json:"userName"`
}

type behalf struct {
	UserID loose `json:"userId"`
}

type extra struct {
	MFAUsed loose `json:"MFAUsed"`
}

type resource struct {
	ARN       loose `json:"ARN"`
	Type      loose `json:"type"`
	AccountID loose `json:"accountId"`
}

// loose is a text, or a number or boolean as it is written; anything else is empty.
type loose string

// UnmarshalJSON never fails.
func (l *loose) UnmarshalJSON(b []byte) error {
	*l = ""
	switch {
	case len(b) == 0 || b[0] == '{' || b[0] == '[' || b[0] == 'n':
	case b[0] == '"' && bytes.IndexByte(b, '\\') < 0:
		*l = loose(b[1 : len(b)-1]) // the scanner has been over it
	case b[0] == '"':
		var s string
		if json.Unmarshal(b, &s) == nil {
			*l = loose(s)
		}
	default:
		*l = loose(b)
	}
	return nil
}

// object is a T, or empty when something else stands in its place.
type object[T any] struct{ v T }

// UnmarshalJSON never fails.
func (o *object[T]) UnmarshalJSON(b []byte) error {
	var v T
	if len(b) > 0 && b[0] == '{' && json.Unmarshal(b, &v) == nil {
		o.v = v
	}
	return nil
}

// list is a list of T, or empty when something else stands in its place.
type list[T any] []T

// UnmarshalJSON never fails.
func (l *list[T]) UnmarshalJSON(b []byte) error {
	var items []object[T]
	if len(b) == 0 || b[0] != '[' || json.Unmarshal(b, &items) != nil {
		return nil
	}
	for _, it := range items {
		*l = append(*l, it.v)
	}
	return nil
}

// service is the first part of an event source: "iam" of "iam.amazonaws.com".
func (r *record) service() string {
	s, _, _ := strings.Cut(string(r.EventSource), ".")
	return s
}
