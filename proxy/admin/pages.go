package admin

import (
	"bytes"
	"html/template"
	"maps"
	"net/http"
	"slices"
)

// page is what the index has of a path.
type page struct{ Path, About string }

// addPages gives all paths their handlers.
func (a *Admin) addPages() {
	a.add("/healthz", "200 while the process is up", http.HandlerFunc(up))
	a.add("/readyz", "200 if it takes calls, otherwise 503 and why not", http.HandlerFunc(a.isReady))
	if a.opts.Metrics != nil {
		a.add("/metrics", "metrics for Prometheus", a.opts.Metrics)
	}
	for _, name := range slices.Sorted(maps.Keys(a.opts.Views)) {
		a.add("/"+name, "as JSON", show(a.opts.Views[name]))
	}
	a.addProfiles()
	a.mux.HandleFunc("/{$}", a.index)
}

func (a *Admin) add(path, about string, h http.Handler) {
	a.mux.Handle(path, h)
	a.pages = append(a.pages, page{path, about})
}

var indexPage = template.Must(template.New("index").Parse(`<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>kitexproxy</title></head>
<body>
<h1>kitexproxy</h1>
<ul>
{{range .}}<li><a href="{{.Path}}">{{.Path}}</a>: {{.About}}</li>
{{end}}</ul>
<p>grpc.health.v1 answers on the same port, without TLS.</p>
</body>
</html>
`))

// index answers / with a list of what there is.
func (a *Admin) index(w http.ResponseWriter, _ *http.Request) {
	var b bytes.Buffer
	if err := indexPage.Execute(&b, a.pages); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes()) // whoever asked may be gone
}
