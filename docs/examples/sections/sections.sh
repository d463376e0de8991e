#!/bin/sh
# What Debian's packages occupy when installed, section by section.
# Reads `available` (from apt-cache dumpavail); writes sections.csv and top-ten.txt.
set -eu

awk '
	/^Section: /        { section = $2 }
	/^Installed-Size: / { size = $2 }
	/^$/                { total[section] += size; count[section]++; section = "none"; size = 0 }
	END                 { for (s in total) printf "%s,%d,%d\n", s, count[s], total[s] }
' available | sort -t, -k3,3nr -k1,1 >sorted

{
	echo "section,packages,installed_kib"
	cat sorted
} >sections.csv

head -n 10 sorted | awk -F, '
	BEGIN { printf "%-20s %10s %14s\n", "section", "packages", "installed MiB" }
	      { printf "%-20s %10d %14.1f\n", $1, $2, $3 / 1024 }
' >top-ten.txt

echo "$(wc -l <sorted) sections, $(awk -F, '{ n += $2 } END { print n }' sorted) packages"
rm sorted
