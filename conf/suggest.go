package conf

import "strings"

// nearest returns the candidate that word was probably meant to be, the first
// one if several are equally near, and "" if none is near.
func nearest(word string, candidates []string) string {
	best, bestDistance := "", len(word)+1
	lower := strings.ToLower(word)
	for _, candidate := range candidates {
		distance, near := likeness(lower, strings.ToLower(candidate))
		if near && distance < bestDistance {
			best, bestDistance = candidate, distance
		}
	}
	return best
}

// likeness tells whether a may be meant to be b, and how far apart they are. A
// third of the letters may be wrong, or one may be short for the other.
func likeness(a, b string) (distance int, near bool) {
	short, long := min(len(a), len(b)), max(len(a), len(b))
	if short >= 3 && long <= 2*short && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a)) {
		return long - short, true
	}
	allowed := max(1, short/3)
	if short < 2 || long-short > allowed {
		return 0, false
	}
	distance = editDistance(a, b)
	return distance, distance <= allowed
}

// editDistance counts the bytes to insert, delete, replace or swap with their
// neighbour to get from a to b (optimal string alignment). Swaps count as one
// because "ehco" for "echo" is one slip of the fingers.
func editDistance(a, b string) int {
	beforeLast, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(replace, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], beforeLast[j-2]+1)
			}
		}
		beforeLast, last, row = last, row, beforeLast
	}
	return last[len(b)]
}

// didYouMean returns a hint naming the nearest candidate and, in brackets, all
// of them under their common name. Without a near one it only lists them.
func didYouMean(word, all string, candidates []string) string {
	list := all + ": " + enumerate(candidates)
	if near := nearest(word, candidates); near != "" {
		return "did you mean " + quote(near) + "? (" + list + ")"
	}
	return list
}

// enumerate lists the first names, as there may be thousands.
func enumerate(names []string) string {
	const most = 16 // as many as gRPC has codes other than OK
	var shown []string
	for _, name := range names[:min(most, len(names))] {
		shown = append(shown, KeyPath("", name)) // in quotes if it needs them
	}
	if len(names) > most {
		shown = append(shown, "...")
	}
	return strings.Join(shown, ", ")
}
