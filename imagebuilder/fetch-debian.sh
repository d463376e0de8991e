#!/bin/sh
# Fetches what the default guest image is made of from Debian, without installing any of it:
# the cloud kernel with its modules, and BusyBox.
#
# usage: fetch-debian.sh BUILD_DIR
# makes: BUILD_DIR/kernel/vmlinuz, BUILD_DIR/kernel/modules/, BUILD_DIR/userland/
set -eu
# The userland's modes are those of the guest.
umask 022

build=$(cd "$1" && pwd)
work=$build/debian
rm -rf "$work"
mkdir -p "$work"
cd "$work"

# The newest real package behind a metapackage: linux-image-cloud-amd64 is one.
kernel_package() {
	apt-cache depends --important linux-image-cloud-amd64 |
		sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1
}

fetch() {
	echo "fetching $1"
	apt-get download -q -o APT::Sandbox::User=root "$1" >/dev/null || {
		echo "cannot download $1: try 'apt-get update' first" >&2
		exit 1
	}
	mkdir "$2"
	dpkg-deb -x "$1"_*.deb "$2"
	rm "$1"_*.deb
}

kernel=$(kernel_package)
if [ -z "$kernel" ]; then
	echo "apt does not know linux-image-cloud-amd64: try 'apt-get update' first" >&2
	exit 1
fi
fetch "$kernel" kernel
fetch busybox-static busybox

rm -rf "$build/kernel" "$build/userland"
mkdir -p "$build/kernel" "$build/userland/bin"
mv kernel/boot/vmlinuz-* "$build/kernel/vmlinuz"
mv kernel/lib/modules/* "$build/kernel/modules"

cp busybox/bin/busybox "$build/userland/bin/busybox"
for applet in $("$build/userland/bin/busybox" --list-full); do
	mkdir -p "$build/userland/$(dirname "$applet")"
	[ "$applet" = bin/busybox ] || ln -sf /bin/busybox "$build/userland/$applet"
done
rm -rf kernel busybox
touch done
