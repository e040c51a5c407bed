package metrics

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/kitexproxy/kitexproxy/handler/intercept"
	"github.com/kitexproxy/kitexproxy/handler/stream"
	"github.com/kitexproxy/kitexproxy/resolver/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// scrape returns the figures as a Prometheus server gets them.
func scrape(t testing.TB, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, w.Code, w.Body)
	b, err := io.ReadAll(w.Body)
	require.NoError(t, err)
	return string(b)
}

// figuresOf returns the proxy's own figures as Prometheus' parser reads them, by their
// names and labels in the order of the alphabet: "name{a=1,b=2}". Those of histograms are
// their counts.
func figuresOf(t testing.TB, m *Metrics) map[string]float64 {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(scrape(t, m)))
	require.NoError(t, err)
	figures := map[string]float64{}
	for name, family := range families {
		short, own := strings.CutPrefix(name, namespace+"_")
		if !own {
			continue
		}
		for _, one := range family.GetMetric() {
			var labels []string
			for _, l := range one.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			slices.Sort(labels)
			figures[fmt.Sprintf("%s{%s}", short, strings.Join(labels, ","))] = one.GetCounter().GetValue() +
				one.GetGauge().GetValue() + float64(one.GetHistogram().GetSampleCount())
		}
	}
	return figures
}

// total returns the sum of the figures of a name.
func total(figures map[string]float64, name string) (sum float64) {
	for labels, value := range figures {
		if strings.HasPrefix(labels, name+"{") {
			sum += value
		}
	}
	return sum
}

func begin(m *Metrics, method string) *intercept.Call {
	return intercept.Begin(intercept.NewObservers(m), intercept.Info{
		Request: &stream.Request{Method: method}, Listener: "127.0.0.1:8888", Logger: slog.New(slog.DiscardHandler),
	})
}

// try has a call be sent to an instance, and fail or succeed there.
func try(c *intercept.Call, r cluster.Result) {
	c.BeginAttempt("shop", "10.0.0.1:9000").End(r)
}

// carry has a call go by a route to a backend, which ends it.
func carry(m *Metrics, method string, code stream.Code) {
	c := begin(m, method)
	c.Routed("orders", "shop", "frame")
	try(c, cluster.Succeeded)
	c.End(ended(code))
}

func ended(code stream.Code) *stream.Trailer {
	return &stream.Trailer{Status: stream.Status{Code: code}}
}
