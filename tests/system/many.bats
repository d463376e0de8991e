# Many jobs, in a row and side by side: all results right, nothing left over.
load helper

# one N: a job whose output and exit code depend on N.
one() {
	local code=0 printed
	printed=$(jobvm run -i input -o "out/$1" -- sh -c "cat input; echo $1 >result; exit $(($1 % 100))") || code=$?
	if [ "$printed" = "the input" ] && [ "$code" -eq $(($1 % 100)) ] &&
		[ "$(cat "out/$1/output/result")" = "$1" ] && [ "$(report .status "out/$1/job.json")" = completed ]; then
		echo right
	else
		echo "job $1: code $code, '$printed'"
	fi
}

# Looks at all that a run could leave: processes, temporary files, files of the results.
nothing_is_left() {
	! own_qemu_pid
	rm -r out
	[ "$(ls -A | tr '\n' ' ')" = "input results " ]
}

@test "200 jobs in a row" {
	own_qemu
	echo "the input" >input
	mkdir out
	for n in {1..200}; do one $n; done >results
	[ "$(sort results | uniq -c | tr -s ' ')" = " 200 right" ]
	nothing_is_left
}

@test "20 jobs side by side" {
	own_qemu
	echo "the input" >input
	mkdir out
	for n in {1..20}; do one $n & done >results
	wait
	[ "$(sort results | uniq -c | tr -s ' ')" = " 20 right" ]
	nothing_is_left
}
