package rule

import "strings"

// didYouMean returns a hint at the one of names that is nearest to a name that is
// none of them, "" if none is near.
func didYouMean(name string, names []string) string {
	if n := nearest(name, names); n != "" {
		return `did you mean "` + n + `"?`
	}
	return ""
}

// nearest returns the one of names that takes the fewest edits to become name,
// "" if that is more than a third of it. Case and underscores do not count.
func nearest(name string, names []string) string {
	const longest = 64 // bytes of names that are worth the time
	if len(name) > longest {
		return ""
	}
	best, fewest := "", (len(name)+1)/3+1
	for _, n := range names {
		if len(n) > longest {
			continue
		}
		if d := distance(plain(name), plain(n)); d < fewest {
			best, fewest = n, d
		}
	}
	return best
}

func plain(name string) string { return strings.ReplaceAll(strings.ToLower(name), "_", "") }

// distance returns how many bytes have to be inserted, removed, replaced or
// swapped with the next to make b of a (optimal string alignment).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1) // rows[i][j] is the distance of a[:i] and b[:j]
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		for j := range rows[i] {
			switch {
			case i == 0 || j == 0:
				rows[i][j] = i + j
				continue
			case a[i-1] == b[j-1]:
				rows[i][j] = rows[i-1][j-1]
			default:
				rows[i][j] = 1 + min(rows[i-1][j-1], rows[i-1][j], rows[i][j-1])
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], 1+rows[i-2][j-2])
			}
		}
	}
	return rows[len(a)][len(b)]
}
