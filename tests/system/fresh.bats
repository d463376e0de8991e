# The README's first command on a fresh Debian 12 that has make and sudo, as an ordinary user.
load helper

# fresh COMMAND: as user dev in the clone on the fresh system.
fresh() {
	$hang_guard unshare --mount --pid --fork --kill-child sh -c '
		mount --bind "$0" "$0" && cd "$0" && mount -t proc proc proc && mount --rbind /dev dev &&
		exec chroot . setpriv --reuid 1000 --regid 1000 --clear-groups \
			env -i HOME=/home/dev PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin \
			sh -c "cd /home/dev/clone && $1"' "$PWD/fresh" "$1"
}

make_fresh_system() {
	debootstrap --variant=minbase --include=make,sudo,ca-certificates bookworm fresh >debootstrap.log
	chroot fresh useradd --create-home --uid 1000 dev
	echo 'dev ALL=(ALL) NOPASSWD: ALL' >fresh/etc/sudoers.d/dev
	cp /etc/resolv.conf fresh/etc/resolv.conf
	git -c safe.directory='*' clone -q --no-hardlinks "$root" fresh/home/dev/clone
	chown -R 1000:1000 fresh/home/dev/clone
}

@test "make run in a fresh clone installs, builds and shows the table; again without the work" {
	needs_root "to make a fresh system"
	make_fresh_system
	run --separate-stderr fresh "make run"
	echo "$output" "$stderr"
	[ "$status" -eq 0 ]
	[[ "$output" == *installing*musl-tools* ]]
	# The table: its head, then ten sections.
	[ "$(tail -n 11 <<<"$output" | head -n 1)" = "section                packages  installed MiB" ]
	[ "$(tail -n 10 <<<"$output" | grep -cE '^[a-z-]+ +[0-9]+ +[0-9]+\.[0-9]$')" -eq 10 ]
	says "s wall"

	run --separate-stderr -0 fresh "make run"
	[[ "$output" != *installing* ]]
	[[ "$output" != *" CC "* ]]
	[ "$(wc -l <fresh/home/dev/clone/build/sections/sections.csv)" -gt 10 ]
}
