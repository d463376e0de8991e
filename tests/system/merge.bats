# What a job changed, applied to the tree that was its input: all of it, nothing else, and nothing
# over what somebody else changed there.
load helper

scramble=$build/guest-programs/scramble

# same A B [OPTION]...: contents, types, modes, targets and times are.
same() {
	local differences
	differences=$(rsync -rlptn --checksum --delete --itemize-changes "${@:3}" "$1/" "$2/")
	[ -z "$differences" ] || { echo "$differences"; return 1; }
}

# All that merging could change in a directory. Its own inode changes when files are staged in it.
state() {
	find "$1" -maxdepth 0 -printf '%p %y %m %s %T@ %n\n'
	find "$1" -mindepth 1 -printf '%p %y %m %s %T@ %C@ %n %l\n' | sort
	find "$1" -type f -exec cksum {} + | sort
}

# make_tree: an input with something of every kind.
make_tree() {
	mkdir -p tree/{kept,sub/deep,gone/deep,todir,tofile/in,tolink/in,anew}
	for name in changed grown cut same mode gone/a gone/deep/b tofile/in/x tolink/in/y todir/z \
		sub/moved sub/deep/c anew/old kept/one tobedir; do
		echo "$name as it was" >"tree/$name"
	done
	ln -s changed tree/link
	ln -s sub tree/linked
	ln -s kept tree/linktodir
	ln -s nowhere tree/linktofile
	find tree -exec touch -hd '2020-01-01 00:00:00.123456789' {} +
}

# The same changes for a job and for a native run. All times are set: they can be compared.
change_all='
echo new >created; mkdir -p made/deep; echo n >made/deep/n; ln -s made newlink
echo other >changed; echo more >>grown; printf "" >cut; printf "same as it wa!\n" >same; chmod 755 mode
rm -r gone; mv sub/moved moved; chmod 700 sub; mv sub/deep deep
rm tobedir; mkdir tobedir; echo f >tobedir/f
rm -r tofile; echo file >tofile; rm -r tolink; ln -s kept tolink
rm -r anew; mkdir anew; echo new >anew/new
rm link; ln -s created link; rm linktodir; mkdir linktodir; echo l >linktodir/l
rm linktofile; echo file >linktofile
t() { touch -hd "$1" "$2"; }
t @1600000000 created; t @1600000001 made/deep/n; t @1600000002 made/deep; t @1600000003 made
t @1600000004 newlink; t @1600000005 changed; t @1600000006 grown; t @1600000007 cut
t @1577836800 same; t @1600000009 mode; t @1600000010 moved; t @1600000011 sub
t @1600000012 tobedir/f; t @1600000013 tobedir; t @1600000014 tofile; t @1600000015 tolink
t @1600000016 anew/new; t @1600000017 anew; t @1600000018 link; t @1600000019 linktodir/l
t @1600000020 linktodir; t @1600000021 linktofile; t @1600000022 deep/c; t @1600000023 deep
t @1600000024 .'

@test "every kind of change is merged, with modes, times and targets" {
	make_tree
	cp -a tree native
	(cd native && sh -c "$change_all")
	run --separate-stderr -0 jobvm run -i tree/ --merge tree -o out -- sh -c "$change_all"
	same native tree
	says "merged into tree: "
	[ "$(report .merge.status)" = merged ]
	[ "$(report .merge.directory)" = tree ]
	[ "$(report .merge.dry_run)" = false ]
	[ "$(report '.merge.conflicts | length')" -eq 0 ]
	[ "$(report .merge.applied.created)" -eq "$(report '.outputs.created | length')" ]
	[ "$(report .merge.applied.changed)" -eq "$(report '.outputs.changed | length')" ]
	[ "$(report .merge.applied.deleted)" -eq "$(report '.outputs.deleted | length')" ]
	[ "$(cat out/output/created)" = new ]
}

# scrambled SEED COUNT [OPTION]...: a job that makes so many random changes, and the same natively.
scrambled() {
	mkdir tree
	(cd tree && "$scramble" "$1" 2000 >/dev/null)
	cp -a tree native
	(cd native && "$scramble" $(($1 + 1000)) "$2" >../native.counts)
	run --separate-stderr -0 jobvm run "${@:3}" -i tree/ -i "$scramble" --merge tree -- sh -c "
		mv scramble /tmp && touch -d @1500000000 . && /tmp/scramble $(($1 + 1000)) $2"
	prints "$(cat native.counts)"
	same native tree
	[ -z "$(find tree -name '*jobvm*')" ]
}

@test "5,000 random changes in a VM and natively make the same tree" {
	scrambled "${SCRAMBLE_SEED:-1}" 5000
}

@test "so do a few, which leave most of the inputs alone" {
	scrambled "${SCRAMBLE_SEED:-2}" 100
}

@test "5,000 random changes to inputs that are fetched, of which the metadata is all that is here" {
	scrambled "${SCRAMBLE_SEED:-3}" 5000 --fetch block
}

# --- conflicts ---

# job_disk COMMAND [OPTION]...: job.img has run it on a tree, and `native` is how it left that.
job_disk() {
	make_tree
	cp -a tree native
	(cd native && sh -c "$1")
	jobvm pack -o job.img -i tree/ "${@:2}" -- sh -c "$1"
	jobvm start job.img
	cp -a tree packed
}

# meanwhile COMMAND: what somebody does to the tree after it was packed, from its first state.
meanwhile() {
	rm -rf tree
	cp -a packed tree
	(cd tree && sh -c "$1")
	state tree >before
}

# conflict PATH REASON COMMAND: what somebody did makes that conflict and no other. Nothing is
# merged, and with force the tree is as the job left it.
conflict() {
	meanwhile "$3"
	run --separate-stderr -125 jobvm collect --merge tree job.img
	says "conflict: $1: $2"
	says "1 conflict; nothing was merged into tree"
	state tree | diff before -
	run --separate-stderr -0 jobvm collect --merge tree --merge-force --json job.img
	[ "$(jq -r '.merge.conflicts | map(.path + ": " + .reason + ": " + .outcome) | .[]' \
		<<<"$output")" = "$1: $2: overwritten" ]
	same native tree
}

@test "what changed since the export is not overwritten, unless it shall be" {
	job_disk "$change_all"
	conflict changed "was changed since, and the job changed it" 'echo mine >changed'
	# Only its time betrays the first one, only its mode the second.
	conflict changed "was changed since, and the job changed it" 'echo changed as it wax >changed'
	conflict changed "was changed since, and the job changed it" 'chmod 640 changed'
	conflict mode "was changed since, and the job changed it" 'chmod 640 mode'
	conflict sub "was changed since, and the job changed it" 'chmod 750 sub'
	conflict changed "was deleted since, and the job changed it" 'rm changed'
	conflict gone/a "was changed since, and the job deleted it" 'echo mine >gone/a'
	conflict gone/deep/b "was changed since, and the job deleted it" \
		'rm gone/deep/b; mkdir gone/deep/b; echo mine >gone/deep/b/mine'
	conflict created "was made since, and the job made it too" 'echo mine >created'
	conflict created "was made since, and the job made it too" 'mkdir created; echo mine >created/x'
	conflict made "was made since, and the job made it too" 'echo mine >made'
	conflict made/deep/n "was made since, and the job made it too" \
		'mkdir -p made/deep; echo mine >made/deep/n'
	conflict newlink "was made since, and the job made it too" 'ln -s elsewhere newlink'
	conflict link "was changed since, and the job changed it" 'ln -sfn elsewhere link'
	conflict tobedir "was changed since, and the job changed it" 'echo mine >tobedir'
	conflict tofile/in/x "was changed since, and the job deleted it" 'echo mine >tofile/in/x'
	conflict linktodir "was changed since, and the job changed it" 'rm linktodir; echo x >linktodir'
}

@test "a directory that the job deleted is not deleted with what is new in it" {
	job_disk "$change_all"
	local reason="was not among the inputs, and the job deleted its directory"
	conflict gone/mine "$reason" 'echo mine >gone/mine'
	conflict gone/deep/mine "$reason" 'mkdir -p gone/deep/mine/deep; echo mine >gone/deep/mine/deep/x'
	conflict tofile/mine "$reason" 'echo mine >tofile/mine'
	conflict tolink/in/mine "$reason" 'mkfifo tolink/in/mine'
	# One that it made anew is there after the job too.
	meanwhile 'echo mine >anew/mine'
	run --separate-stderr -0 jobvm collect --merge tree job.img
	same native tree --exclude anew/mine
	[ "$(cat tree/anew/mine)" = mine ]
}

@test "a directory that is gone, or no directory any more, is a conflict for what is in it" {
	job_disk 'echo new >sub/deep/c; echo t >sub/deep/new; touch -d @1600000000 sub/deep/* sub/deep'
	local reason="its directory is no longer there, and the job changed something in it" change
	mkdir outside
	for change in 'rm -r sub/deep' 'rm -r sub' 'rm -r sub/deep; echo mine >sub/deep' \
		"rm -r sub/deep; ln -s $PWD/outside sub/deep" "rm -r sub; ln -s $PWD/outside sub"; do
		meanwhile "$change"
		run --separate-stderr -125 jobvm collect --merge tree job.img
		says "conflict: sub/deep/c: $reason"
		says "conflict: sub/deep/new: $reason"
		says "2 conflicts"
		state tree | diff before -
		run --separate-stderr -0 jobvm collect --merge tree --merge-force job.img
		[ "$(cat tree/sub/deep/c tree/sub/deep/new)" = $'new\nt' ]
		same native/sub/deep tree/sub/deep
		[ -z "$(ls outside)" ]
	done
}

@test "what is as the job left it already is no conflict" {
	job_disk "$change_all"
	# Half of what the job did, with other times, and more that does not meet it.
	meanwhile 'echo other >changed; echo new >created; mkdir -p made/deep; rm -r gone tofile
		echo file >tofile; ln -sfn created link; echo mine >unrelated; echo mine >kept/mine
		rm kept/one; chmod 755 mode; touch mode'
	run --separate-stderr -0 jobvm collect --merge tree job.img
	same native tree --exclude unrelated --exclude kept
	[ "$(cat tree/unrelated)" = mine ]
	[ "$(ls tree/kept)" = mine ]
	# And all of it.
	state tree >before
	run --separate-stderr -0 jobvm collect --merge tree job.img
	says "0 created, 0 changed, 0 deleted"
	state tree | diff before -
}

# --- nothing but that ---

@test "a dry run says what a merge would do and what conflicts, and changes nothing" {
	job_disk "$change_all"
	meanwhile :
	local top
	top=$(stat -c '%y %z' tree)
	run --separate-stderr -0 jobvm collect --dry-run --merge tree job.img
	state tree | diff before -
	[ "$(stat -c '%y %z' tree)" = "$top" ]
	for line in "created file      created" "created directory made/" "changed file      mode" \
		"deleted directory gone/" "deleted file      gone/deep/b" "changed symlink   tolink" \
		"created symlink   newlink" "changed directory tobedir/"; do
		grep -qxF "$line" <<<"$output"
	done
	[ "$(grep -c . <<<"$output")" -eq \
		"$(sed -n 's/.*: \([0-9]*\) created, \([0-9]*\) changed, \([0-9]*\) deleted$/\1 + \2 + \3/p' \
			<<<"$stderr" | xargs expr)" ]
	[ -z "$(find . -name '.jobvm*')" ]

	meanwhile 'echo mine >changed; echo mine >gone/mine'
	run --separate-stderr -125 jobvm collect --dry-run --merge tree job.img
	says "conflict: changed: "
	says "conflict: gone/mine: "
	says "2 conflicts"
	run --separate-stderr -0 jobvm collect --dry-run --merge-force --json --merge tree job.img
	[ "$(jq -r '.merge | .status, .dry_run, .forced, .conflicts[].outcome' <<<"$output")" = \
		$'planned\ntrue\ntrue\nkept\nkept' ]
	state tree | diff before -
}

@test "no symlink leads a merge out of the tree" {
	mkdir outside
	echo precious >outside/file
	make_tree
	ln -s ../outside tree/out
	ln -s "$PWD/outside" tree/absolute
	# The job puts directories in the place of links, links in that of directories, and writes.
	local command="
		rm out; mkdir out; echo evil >out/file; echo evil >out/new
		rm absolute; echo evil >absolute
		rm -r sub; ln -s $PWD/outside sub; rm -r gone; ln -s ../outside gone; rm tobedir; ln -s / tobedir"
	jobvm pack -o job.img -i tree/ -- sh -c "$command"
	jobvm start job.img
	run --separate-stderr -0 jobvm collect --merge tree job.img
	[ "$(cat outside/file)" = precious ]
	[ "$(ls outside)" = file ]
	[ "$(cat tree/out/file tree/out/new tree/absolute)" = $'evil\nevil\nevil' ]
	[ ! -L tree/out ]
	[ "$(readlink tree/sub tree/gone tree/tobedir)" = "$PWD/outside"$'\n../outside\n/' ]
}

@test "a process that swaps directories for symlinks gets nothing written or removed outside" {
	mkdir sentinel
	for i in $(seq 100); do echo precious >"sentinel/$i"; done
	mkdir -p tree/d/e
	for i in $(seq 50); do echo x | tee tree/d/$i >tree/d/e/$i; done
	jobvm pack -o job.img -i tree/ -- sh -c '
		for i in $(seq 50); do rm d/$i; echo y >d/e/$i; done
		for i in $(seq 51 100); do echo y >d/$i; echo y >d/e/$i; done'
	jobvm start job.img
	cp -a tree packed
	mkfifo ready
	for ((n = 0; n < ${JOBVM_SWAPS:-20}; n++)); do
		rm -rf tree link
		cp -a packed tree
		ln -s "$PWD/sentinel" link
		"$build/host-programs/swap" link tree/d tree/d/e >ready &
		swapper=$!
		read -r <ready
		"$build/jobvm" collect --merge tree --merge-force job.img 2>said || true
		kill "$swapper"
		wait "$swapper" || true
		[ "$(cat sentinel/* | sort | uniq -c | xargs)" = "100 precious" ]
	done
}

@test "special files are not made, other bits are dropped, and hard links are files" {
	run --separate-stderr -0 jobvm run -i "$build/guest-programs/special" --merge . --user root -- sh -c '
		./special >/dev/null; rm -f special; echo x >setuid; chmod 6755 setuid
		mkdir sticky; chmod 1777 sticky; echo h >one; ln one two'
	says "not merged: fifo (fifo)"
	[ ! -e fifo ]
	[ "$(stat -c %a setuid sticky)" = $'755\n777' ]
	[ "$(cat one two)" = $'h\nh' ]
	[ -z "$(find . -perm /7000)" ]
	[ -z "$(find . ! -type f ! -type d ! -type l)" ]
}

@test "set-user-ID files and set-group-ID directories that the job left alone stay so" {
	mkdir -p tree/shared
	echo x >tree/shared/tool
	chmod 4755 tree/shared/tool
	chmod 2770 tree/shared
	run --separate-stderr -0 jobvm run -i tree/ --merge tree -- sh -c 'echo y >shared/new; chmod g-w shared'
	[ "$(stat -c %a tree/shared tree/shared/tool)" = $'2750\n4755' ]
	[ "$(cat tree/shared/new)" = y ]
}

@test "names of every kind are merged, escaped where they are shown, and whole in JSON" {
	mkdir tree
	run --separate-stderr -0 jobvm run -i tree/ --merge tree -- sh -c '
		echo 1 >"$(printf "a\nb")"; echo 2 >"$(printf "\377\033[2J")"; echo 3 >-rf; echo 4 >"%s"'
	jobvm pack -o job.img -- sh -c 'echo 5 >"$(printf "\377\033[2J")"'
	jobvm start job.img
	run --separate-stderr -125 jobvm collect --merge tree --json job.img
	says 'conflict: \xff\x1b[2J: was made since'
	[ "$(jq -r '.merge.conflicts[].path_hex' <<<"$output")" = ff1b5b324a ]
	[ "$(cat tree/*)" = $'4\n3\n1\n2' ] || [ "$(cat tree/* | sort)" = $'1\n2\n3\n4' ]
	run --separate-stderr -0 jobvm collect --dry-run --merge-force --merge tree job.img
	prints 'created file      \xff\x1b[2J'
}

# --- whose results ---

@test "a job that failed is merged, but not where only success is wanted" {
	mkdir tree
	run --separate-stderr -3 jobvm run --merge tree -- sh -c 'echo x >file; exit 3'
	[ "$(cat tree/file)" = x ]
	run --separate-stderr -3 jobvm run --merge tree --when-to-transfer-output ON_SUCCESS -o out -- \
		sh -c 'echo y >other; exit 3'
	says "nothing was merged into tree: the job did not succeed"
	[ "$(report .merge.status)" = not_wanted ]
	[ "$(ls tree)" = file ]
	run --separate-stderr -0 jobvm run --merge tree --when-to-transfer-output ON_SUCCESS -- \
		sh -c 'echo y >other'
	[ "$(cat tree/other)" = y ]
}

@test "a merge takes all that changed, whatever outputs are declared" {
	mkdir tree
	echo x >tree/gone
	run --separate-stderr -0 jobvm run -i tree/ --merge tree -o out --transfer-output-files wanted -- \
		sh -c 'echo 1 >wanted; echo 2 >also; rm gone'
	[ "$(ls tree)" = $'also\nwanted' ]
	[ "$(ls out/output)" = wanted ]
}

@test "a job that was cut off is not merged, unless it shall be" {
	mkdir tree
	jobvm pack -o job.img -i tree/ -- sh -c 'echo data >file; sync; echo ready; sleep 100'
	kill_start
	run --separate-stderr -125 jobvm collect --merge tree job.img
	says "nothing was merged into tree: incomplete"
	says "the outputs are partial"
	[ -z "$(ls -A tree)" ]
	run --separate-stderr -125 jobvm collect --merge tree --merge-force job.img
	says "merged into tree: 1 created"
	[ "$(cat tree/file)" = data ]
}

@test "outputs beyond the cap are not merged at all" {
	mkdir tree
	run --separate-stderr -125 jobvm run -i tree/ --merge tree --max-transfer-output-mb 1 -- \
		sh -c 'echo small >a; head -c 2000000 /dev/zero >b'
	says "max_transfer_output_mb"
	[ -z "$(ls -A tree)" ]
}

@test "more files than can be listed are not merged at all" {
	mkdir tree
	jobvm pack -o job.img -i tree/ -- sh -c 'for i in $(seq 30); do echo x >$i; done'
	jobvm start job.img
	run --separate-stderr -125 $hang_guard "$build/few/jobvm" collect --merge tree --merge-force job.img
	says "the job has more than 20 outputs"
	[ -z "$(ls -A tree)" ]
}

@test "a job that has not run, or whose image was changed, is not merged" {
	mkdir tree
	jobvm pack -o job.img -- sh -c 'echo x >x'
	run --separate-stderr -125 jobvm collect --merge tree job.img
	says "has not run yet"
	jobvm start job.img
	jq '.manifest_sha256 = "0"' job.img.host.json >new && mv new job.img.host.json
	run --separate-stderr -125 jobvm collect --merge tree --merge-force job.img
	says "invalid_result"
	[ -z "$(ls -A tree)" ]
}

# --- what is kept ---

@test "a run that cannot be merged keeps its job disk, which can be" {
	mkdir tree
	echo as-it-was >tree/file
	start_job -i tree/ --merge tree -- sh -c 'echo ready; until [ -e go ]; do read -r line; echo x >go; done
		echo job >file'
	echo mine, and longer >tree/file
	end_job
	[ "$code" -eq 125 ]
	stderr=$(cat stderr)
	says "conflict: file: was changed since"
	[ "$(cat tree/file)" = "mine, and longer" ]
	local disk
	disk=$(sed -n "s/.*'jobvm collect --merge tree \(.*\)' merges it$/\1/p" stderr)
	[ -n "$disk" ]
	run --separate-stderr -125 jobvm collect --merge tree "$disk"
	run --separate-stderr -0 jobvm collect --merge tree --merge-force "$disk"
	[ "$(cat tree/file)" = job ]
}

@test "a run that was merged leaves nothing but that" {
	mkdir tree
	run --separate-stderr -0 jobvm run -i tree/ --merge tree -- sh -c 'echo x >file'
	[ "$(ls -A)" = tree ]
	[ "$(ls -A tree)" = file ]
	run --separate-stderr -0 jobvm run -i tree/ --merge tree --dry-run -- sh -c 'echo out; rm file'
	prints out
	says "deleted file      file"
	says "the job disk is kept"
	[ "$(ls -A tree)" = file ]
}

@test "the jobs of a submit description are merged one after the other" {
	mkdir tree
	echo 0 >tree/count
	printf '%s\n' 'executable = /bin/sh' 'transfer_executable = false' \
		"arguments = \"-c 'read n <count; echo \$((n + 1)) >count'\"" \
		'transfer_input_files = tree/' 'queue 3' >job.sub
	run --separate-stderr -0 jobvm run --merge tree job.sub
	[ "$(cat tree/count)" = 3 ]
	[ ! -e count ]
}

# --- failures in the middle ---

# many_files: job.img makes 40 files anew and changes and deletes as many; `native` is its result.
many_files() {
	mkdir tree
	for i in $(seq 40); do
		echo "old $i" >"tree/change.$i"
		echo "old $i" >"tree/delete.$i"
	done
	cp -a tree native
	local command='for i in $(seq 40); do echo "new $i" >change.$i; echo "new $i" >create.$i; rm delete.$i
		touch -d @1600000000 change.$i create.$i; done; touch -d @1600000000 .'
	(cd native && sh -c "$command")
	jobvm pack -o job.img -i tree/ -- sh -c "$command"
	jobvm start job.img
	cp -a tree packed
	strace -o probe true || skip "this host does not let its user trace processes"
}

# merge_with FAULT: what happens to the merge at some system call (strace(1), inject).
merge_with() {
	rm -rf tree
	cp -a packed tree
	code=0
	$hang_guard strace -qq -o trace -e trace="${1%%:*}" -e inject="$1" \
		"$build/jobvm" collect --merge tree job.img 2>stderr || code=$?
	stderr=$(cat stderr)
}

# Each file is as it was or as the job left it, some of each; and again completes it.
is_half_done() {
	local file new=0 old=0
	for file in packed/* native/*; do
		file=${file#*/}
		if cmp -s "tree/$file" "native/$file" || { [ ! -e "tree/$file" ] && [ ! -e "native/$file" ]; }; then
			new=$((new + 1))
		elif cmp -s "tree/$file" "packed/$file" || { [ ! -e "tree/$file" ] && [ ! -e "packed/$file" ]; }; then
			old=$((old + 1))
		else
			echo "$file is neither old nor new"
			return 1
		fi
	done
	[ "$new" -gt 0 ] && [ "$old" -gt 0 ]
	run --separate-stderr -0 jobvm collect --merge tree job.img
	says "as the job left it already"
	same native tree
	[ -z "$(find tree -name '.*' ! -name .)" ]
}

@test "a merge that is killed leaves each file old or new, and the same again completes it" {
	many_files
	merge_with renameat:signal=KILL:when=3
	[ "$code" -eq 137 ]
	[ "$(stat -c %a tree/.jobvm-merge-*)" = 700 ]
	# Nothing is deleted before all is there that takes its place.
	[ "$(ls tree/delete.* | wc -l)" -eq 40 ]
	is_half_done
	merge_with renameat2:signal=KILL:when=7
	is_half_done
	merge_with unlinkat:signal=KILL:when=5
	is_half_done
}

@test "a full disk and a missing right in the middle: what is done stays, and again completes it" {
	many_files
	merge_with renameat:error=ENOSPC:when=20
	[ "$code" -eq 125 ]
	says "No space left on device"
	says "made in tree before that"
	[ -z "$(find tree -name '.jobvm*')" ]
	is_half_done
	merge_with unlinkat:error=EACCES:when=7
	[ "$code" -eq 125 ]
	says "Permission denied"
	is_half_done
}

@test "a file system that cannot exchange names, or does not know how not to replace" {
	make_tree
	cp -a tree native
	(cd native && sh -c "$change_all")
	jobvm pack -o job.img -i tree/ -- sh -c "$change_all"
	jobvm start job.img
	strace -o probe true || skip "this host does not let its user trace processes"
	run --separate-stderr -0 $hang_guard strace -qq -o trace -e trace=renameat2 \
		-e inject=renameat2:error=EINVAL "$build/jobvm" collect --merge tree job.img
	grep -q INJECTED trace
	same native tree
}

@test "a signal in the middle stops the merge, which tidies up" {
	many_files
	merge_with renameat2:signal=TERM:when=10
	[ "$code" -eq 143 ]
	says "cancelled by signal 15"
	[ -z "$(find tree -name '.jobvm*')" ]
	is_half_done
}

@test "what changes while it is merged is not overwritten" {
	many_files
	rm -rf tree
	cp -a packed tree
	# The merge stands still when all was compared.
	strace -qq -o trace -e trace=syncfs -e inject=syncfs:signal=STOP:when=1 \
		"$build/jobvm" collect --merge tree job.img 2>stderr &
	local tracer=$! code=0 merger
	until grep -q STOP trace 2>/dev/null; do :; done
	merger=$(pgrep -P "$tracer" jobvm)
	echo mine >tree/change.40
	kill -CONT "$merger"
	wait "$tracer" || code=$?
	[ "$code" -eq 125 ]
	grep -q "tree/change.40: changed while it was merged" stderr
	[ "$(cat tree/change.40)" = mine ]
}

@test "a disk that has no room for the outputs: nothing is merged" {
	needs_small_disk
	jobvm pack -o job.img -- sh -c 'echo x >a; head -c 3000000 /dev/urandom >b; echo x >c'
	jobvm start job.img
	run --separate-stderr -0 small_disk 2m sh -c '
		mkdir small/tree; echo old >small/tree/old
		"$0" collect --merge small/tree job.img; echo "$?"; ls -A small/tree' "$build/jobvm"
	says "the file system that it is on is full"
	prints $'125\nold'
}

@test "another file system below the tree is not merged into" {
	needs_small_disk
	mkdir -p tree/sub
	jobvm pack -o job.img -i tree/ -- sh -c 'echo x >sub/file; echo y >file'
	jobvm start job.img
	run --separate-stderr -0 "${own_mounts[@]}" sh -c '
		mount -t tmpfs tmpfs tree/sub; "$0" collect --merge tree job.img; echo "$?"; ls -A tree tree/sub' \
		"$build/jobvm"
	says "tree/sub/file: another file system is mounted on the way"
	prints $'125\ntree:\nsub\n\ntree/sub:'
}

@test "two merges into one tree do not meet" {
	mkdir tree
	jobvm pack -o job.img -- sh -c 'echo x >file'
	jobvm start job.img
	run --separate-stderr -125 flock tree "$build/jobvm" collect --merge tree job.img
	says "another jobvm merges into tree"
	[ -z "$(ls -A tree)" ]
}

@test "an output with a name that merges use is not merged" {
	mkdir tree
	run --separate-stderr -0 jobvm run --merge tree -- sh -c '
		mkdir .jobvm-merge-00000000; echo x >.jobvm-merge-00000000/x; echo y >y'
	says "not merged: .jobvm-merge-00000000 (a name that merges use)"
	[ "$(ls -A tree)" = y ]
}

# --- who merges ---

@test "an ordinary user merges into directories that nobody may write" {
	local as=(env)
	if [ "$(id -u)" -eq 0 ]; then
		as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
		"${as[@]}" test -x "$build/jobvm" || skip "nobody cannot execute $build/jobvm"
	fi
	user_directory=$(mktemp -d /tmp/jobvm-user.XXXXXX)
	mkdir -p "$user_directory/tree/closed/gone"
	echo x >"$user_directory/tree/closed/gone/x"
	echo old >"$user_directory/tree/closed/file"
	chmod 555 "$user_directory"/tree/closed{/gone,}
	cp -a "$user_directory/tree" native
	local command='chmod 755 closed closed/gone; echo new >closed/file; rm -r closed/gone; echo s >closed/secret
		chmod 0 closed/secret; mkdir closed/dark; echo d >closed/dark/d; chmod 500 closed/dark
		chmod 555 closed; touch -d @1600000000 closed/* closed .'
	(cd native && sh -c "$command")
	[ "$(id -u)" -ne 0 ] || chown -R 65534:65534 "$user_directory"
	local run=("${as[@]}" env TMPDIR="$user_directory" XDG_CACHE_HOME="$user_directory/cache" HOME="$user_directory"
		$hang_guard "$build/jobvm" run -i "$user_directory/tree/" --merge "$user_directory/tree")
	run --separate-stderr -0 "${run[@]}" -- sh -c "$command"
	chmod 644 "$user_directory/tree/closed/secret" native/closed/secret
	same native "$user_directory/tree" --exclude dark/d
	chmod -R u+rwX "$user_directory"
}

@test "a directory that we may not write: nothing is merged" {
	needs_root "to become an ordinary user"
	local as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
	"${as[@]}" test -x "$build/jobvm" || skip "nobody cannot execute $build/jobvm"
	user_directory=$(mktemp -d /tmp/jobvm-user.XXXXXX)
	mkdir -p "$user_directory/tree/theirs"
	jobvm pack -o "$user_directory/job.img" -i "$user_directory/tree/" -- sh -c 'echo x >a; echo x >theirs/b'
	jobvm start "$user_directory/job.img"
	chown 65534 "$user_directory"{,/tree,/job.img*}
	run --separate-stderr -125 "${as[@]}" "$build/jobvm" collect --merge "$user_directory/tree" \
		"$user_directory/job.img"
	says "tree/theirs/b: Permission denied"
	[ "$(ls -A "$user_directory/tree")" = theirs ]
	chown 0 "$user_directory/tree"
	run --separate-stderr -125 "${as[@]}" "$build/jobvm" run --merge "$user_directory/tree" -- echo ran
	prints ""
	says "tree: Permission denied"
}

@test "wrong command lines" {
	mkdir tree
	for line in "run --dry-run -- true" "run --merge-force -- true" "collect --dry-run -o out x" \
		"collect --merge tree --sign-key key x" "collect x"; do
		run --separate-stderr -2 jobvm $line
	done
	run --separate-stderr -2 jobvm run -i tree --merge ./tree -- true
	says "the input 'tree' is the directory itself; 'tree/' is what it holds"
	run --separate-stderr -125 jobvm run --merge nowhere -- sh -c 'echo ran'
	prints ""
	says "open nowhere to merge into it"
}
