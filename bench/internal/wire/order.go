package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// orderText is an order of package orders in JSON, 1 KiB without spaces, with its fields in the order of the schema and
// numbers of 64 bits as strings: as protojson writes it.
const orderText = `{
"id":"0123456789abcdef",
"customer":"customers/northwind-traders-4711",
"state":"STATE_OPEN",
"totalCents":"1234567",
"paid":true,
"items":[
{"sku":"BK-1001","title":"A-History-of-Reading","quantity":3,"priceCents":"2499","weightKg":0.75},
{"sku":"BK-1002","title":"The-Art-of-Memory","quantity":1,"priceCents":"1899","weightKg":0.5},
{"sku":"KT-2040","title":"Cast-Iron-Kettle,-Two-Litres","quantity":2,"priceCents":"7450","weightKg":3.25},
{"sku":"LM-0007","title":"Desk-Lamp-with-a-Green-Shade","quantity":1,"priceCents":"12900","weightKg":2.125},
{"sku":"PN-3300","title":"Fountain-Pen,-Fine-Nib","quantity":10,"priceCents":"4550","weightKg":0.0625},
{"sku":"TB-5521","title":"Folding-Table,-Oak-and-Brass","quantity":1,"priceCents":"1047000","weightKg":18.5}
],
"labels":{"campaign":"autumn-2026","channel":"web","region":"eu-central","warehouse":"rotterdam-2"},
"note":"Please-leave-it-with-the-neighbours-at-number-twelve-if-nobody-answers-the-door,-and-ring-twice-before-that,-as-the-bell-is-a-quiet-one-0123456789abcdef"
}`

const stampDigits = "0123456789abcdef"

// Order is a message in JSON that carries a stamp in its first and its last field, as a Payload does at its ends.
type Order struct {
	text []byte
	at   [2]int // where the stamps are
}

// NewOrder makes one of its own for each caller.
func NewOrder() Order {
	var text bytes.Buffer
	if err := json.Compact(&text, []byte(orderText)); err != nil {
		panic(err)
	}
	first, last := bytes.Index(text.Bytes(), []byte(stampDigits)), bytes.LastIndex(text.Bytes(), []byte(stampDigits))
	return Order{text: text.Bytes(), at: [2]int{first, last}}
}

// Stamp writes the stamp and returns the whole message, which is good until the next Stamp.
func (o Order) Stamp(stamp uint64) []byte {
	for _, at := range o.at {
		copy(o.text[at:], fmt.Appendf(nil, "%016x", stamp))
	}
	return o.text
}

// Check says what is wrong with a reply that should be this order with the given stamp. Spaces are not: protojson
// writes some, to keep its readers from relying on its bytes.
func (o Order) Check(got []byte, stamp uint64) error {
	var text bytes.Buffer
	text.Grow(len(got))
	if err := json.Compact(&text, got); err != nil {
		return fmt.Errorf("reply of %d bytes is not JSON: %w", len(got), err)
	}
	if want := o.Stamp(stamp); !bytes.Equal(text.Bytes(), want) {
		return fmt.Errorf("reply %.100q of %d bytes is not the order that was sent, of %d", text.Bytes(), text.Len(), len(want))
	}
	return nil
}
