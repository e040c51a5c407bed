package wire_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/kitexproxy/kitexproxy/bench/internal/orders"
	"github.com/kitexproxy/kitexproxy/bench/internal/wire"
)

// TestOrderIsOfTheSchema: what a proxy makes of an order is the order, but for spaces.
func TestOrderIsOfTheSchema(t *testing.T) {
	order := wire.NewOrder()
	sent := bytes.Clone(order.Stamp(7))
	if len(sent) < 1000 || len(sent) > 1050 {
		t.Errorf("an order has %d bytes, want about 1 KiB", len(sent))
	}
	var m orders.Order
	if err := protojson.Unmarshal(sent, &m); err != nil {
		t.Fatal(err)
	}
	reply, err := protojson.Marshal(&m)
	if err != nil {
		t.Fatal(err)
	}
	if err := order.Check(reply, 7); err != nil {
		t.Error(err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, reply, "", "\t"); err != nil {
		t.Fatal(err)
	}
	if err := order.Check(indented.Bytes(), 7); err != nil {
		t.Error(err)
	}
}

func TestWrongOrdersAreFound(t *testing.T) {
	order := wire.NewOrder()
	good := string(order.Stamp(42))
	stamp := "000000000000002a"
	for name, reply := range map[string]string{
		"empty":               "",
		"cut":                 good[:len(good)-1],
		"another call's":      strings.ReplaceAll(good, stamp, "000000000000002b"),
		"another call's end":  good[:50] + strings.Replace(good[50:], stamp, "000000000000002b", 1),
		"another field":       strings.Replace(good, `"paid":true`, `"paid":null`, 1),
		"an error in its way": `{"code":14,"message":"no backend"}`,
	} {
		if order.Check([]byte(reply), 42) == nil {
			t.Errorf("%s: taken for the order", name)
		}
	}
	if err := order.Check([]byte(good), 42); err != nil {
		t.Error(err)
	}
}
