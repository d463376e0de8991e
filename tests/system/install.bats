# make install puts everything where jobvm finds it.
load helper

@test "an installed jobvm runs jobs and builds images, wherever it was installed" {
	# The umask of who installs it plays no part.
	(umask 077 && make -s -C "$root" B="$build" install DESTDIR="$PWD/staged" PREFIX=/usr)
	mv staged moved
	[ -z "$(find moved/usr ! -perm -o+r)" ]
	# What a clone needs is there too.
	unset JOBVM_START
	run --separate-stderr -3 moved/usr/bin/jobvm run -o out -- sh -c 'echo installed; exit 3'
	prints installed
	[ "$(report .host.image)" = "$PWD/moved/usr/share/jobvm/image" ]
	[ "$(report .host.start.kind)" = clone ]
	run --separate-stderr -0 moved/usr/bin/jobvm run --fetch block -i out/ -- cat stdout
	prints installed
	SOURCE_DATE_EPOCH=0 moved/usr/bin/jobvm image build -o image
	diff -r image "$build/image"
	moved/usr/bin/jobvm serve moved/usr/bin --listen unix:socket 2>said 3>&- &
	serve_pid=$!
	until grep -q ': serving ' said; do kill -0 "$serve_pid"; done
	kill "$serve_pid"
	wait "$serve_pid"
	[ "$(mandoc -Tlint -W warning moved/usr/share/man/man1/*.1 moved/usr/share/man/man5/*.5)" = "" ]
}

@test "an installed jobvm has the tuned kernel that was built" {
	[ -e "$build/kernel-tuned/vmlinux" ] || skip "no tuned kernel: 'make kernel' builds it"
	make -s -C "$root" B="$build" install DESTDIR="$PWD/staged" PREFIX=/usr
	staged/usr/bin/jobvm image build -o image --kernel tuned
	cmp image/kernel "$build/kernel-tuned/vmlinux"
	run --separate-stderr -0 staged/usr/bin/jobvm run --image image -- uname -r
	[[ "$output" == *-jobvm ]]
}
