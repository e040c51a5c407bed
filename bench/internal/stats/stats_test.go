package stats

import (
	"slices"
	"testing"
)

func TestPercentile(t *testing.T) {
	hundred := make([]int, 100)
	for i := range hundred {
		hundred[i] = i + 1
	}
	for _, c := range []struct {
		name   string
		values []int
		p      float64
		want   int
	}{
		{"none", nil, 50, 0},
		{"only one, median", []int{7}, 50, 7},
		{"only one, tail", []int{7}, 99, 7},
		{"median of a hundred", hundred, 50, 50},
		{"tail of a hundred", hundred, 99, 99},
		{"lowest", hundred, 0, 1},
		{"highest", hundred, 100, 100},
		{"median of two is a value that occurred", []int{1, 9}, 50, 1},
		{"tail of few is the largest", []int{1, 2, 3}, 99, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Percentile(c.values, c.p); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []float64
		want   float64
	}{
		{"none", nil, 0},
		{"one", []float64{3}, 3},
		{"odd, unsorted", []float64{9, 1, 5}, 5},
		{"even", []float64{4, 1, 3, 2}, 2.5},
		{"one outlier changes nothing", []float64{5, 5, 5, 5, 1000}, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := slices.Clone(c.values)
			if got := Median(c.values); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if !slices.Equal(before, c.values) {
				t.Errorf("values were reordered: %v", c.values)
			}
		})
	}
}

func TestRatioHasNoFigureWhereAPartIsMissing(t *testing.T) {
	for _, c := range []struct{ a, b, want float64 }{{6, 2, 3}, {2, 4, 0.5}, {0, 2, 0}, {2, 0, 0}, {0, 0, 0}} {
		if got := Ratio(c.a, c.b); got != c.want {
			t.Errorf("Ratio(%v, %v) = %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

func TestRange(t *testing.T) {
	if low, high := Range([]float64{2, 1, 3}); low != 1 || high != 3 {
		t.Errorf("got %v to %v, want 1 to 3", low, high)
	}
	if low, high := Range(nil); low != 0 || high != 0 {
		t.Errorf("of nothing: got %v to %v", low, high)
	}
}
