package auth

import (
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"strings"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
)

const (
	defaultIDHeader = "x-request-id"
	maxID           = 128 // bytes of an ID that is trusted
)

// RequestID says how calls get an ID.
type RequestID struct {
	// Header is the key of metadata that has it, "" for "x-request-id".
	Header string
	// Trust keeps the ID that a client has sent: one, of up to 128 letters, digits and
	// "-_.:/+=@". Any other is replaced, as all are without Trust.
	Trust bool
	// Response has the client get the ID as well, in the head of the response.
	Response bool
}

// NewRequestID returns a guard that gives each call an ID, which the backend gets. A new
// one is 128 random bits in hexadecimal: unlikely to come twice, but no secret.
func NewRequestID(o RequestID) (intercept.Guard, error) {
	header, err := headerKey(o.Header, defaultIDHeader)
	if err != nil {
		return nil, err
	}
	return func(c *intercept.Call) error {
		id, count := credential(c, header)
		if !o.Trust || count != 1 || !isID(id) {
			id = newID()
			if err := c.Header().Set(header, id); err != nil {
				return err
			}
		}
		c.SetRequestID(id)
		if !o.Response {
			return nil
		}
		return c.AddResponseHeader(header, id)
	}, nil
}

// isID reports whether an ID can stand in logs as it is.
func isID(id string) bool {
	return id != "" && len(id) <= maxID && !strings.ContainsFunc(id, func(r rune) bool {
		isAlphanumeric := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		return !isAlphanumeric && !strings.ContainsRune("-_.:/+=@", r)
	})
}

func newID() string {
	var bits [16]byte
	binary.BigEndian.PutUint64(bits[:], rand.Uint64())
	binary.BigEndian.PutUint64(bits[8:], rand.Uint64())
	var text [2 * len(bits)]byte
	hex.Encode(text[:], bits[:])
	return string(text[:])
}
