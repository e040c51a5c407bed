package report

import (
	"encoding/json"
	"io"
)

// JSON writes the medians and every single measurement they come from.
func (r Run) JSON(w io.Writer) error {
	type table struct {
		Scenario string `json:"scenario"`
		Rows     []Row  `json:"rows"`
	}
	var tables []table
	for _, name := range r.Scenarios {
		tables = append(tables, table{name, r.Rows(name)})
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		Tables []table `json:"tables"`
		Run
	}{tables, r})
}
