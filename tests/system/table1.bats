# The paper's Table 1: each cell is a probe of its own (tests/table1).
load helper

@test "each cell of Table 1 is what jobvm claims, and natively what it claims to change" {
	run --separate-stderr -0 env TMPDIR=/tmp timeout 550 "$root/tests/table1"
	[ "${#lines[@]}" -eq 12 ]
}
