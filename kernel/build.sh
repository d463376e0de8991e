#!/bin/sh
# Builds the tuned guest kernel from Debian's kernel source, kernel/config and one patch. Neither
# the source nor the kernel is installed.
#
# usage: kernel/build.sh BUILD_DIR
# makes: BUILD_DIR/kernel-tuned/vmlinux
set -eu

here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "$1" && pwd)
work=$build/linux
package=linux-source-6.1

patch=$here/virtio-console-buffers.patch

# The source is fetched, unpacked and patched once, and again when the patch is another.
if ! cmp -s "$patch" "$work/patched-with"; then
	rm -rf "$work"
	mkdir -p "$work/source"
	cd "$work"
	echo "fetching $package"
	apt-get download -q -o APT::Sandbox::User=root "$package" >/dev/null || {
		echo "cannot download $package: try 'apt-get update' first" >&2
		exit 1
	}
	dpkg-deb --fsys-tarfile "$package"_*.deb |
		tar -xO "./usr/src/$package.tar.xz" |
		tar -xJ -C source --strip-components=1
	rm "$package"_*.deb
	patch -s -p1 -d source <"$patch"
	cp "$patch" patched-with
fi

# The same source and configuration give the same bytes.
export KBUILD_BUILD_TIMESTAMP='1970-01-01' KBUILD_BUILD_USER=jobvm KBUILD_BUILD_HOST=jobvm
export KBUILD_BUILD_VERSION=1

kernel_make() {
	nice make -s -C "$work/source" O="$work/objects" -j "$(nproc)" "$@"
}

kernel_make KCONFIG_ALLCONFIG="$here/config" allnoconfig

# Kconfig drops what does not fit without a word.
dropped=$(grep '^CONFIG_' "$here/config" | grep -vxFf "$work/objects/.config" || true)
if [ -n "$dropped" ]; then
	echo "kernel/config: not taken by this kernel:" >&2
	echo "$dropped" >&2
	exit 1
fi

echo "compiling the tuned kernel"
kernel_make vmlinux

mkdir -p "$build/kernel-tuned"
# Without the symbols, which QEMU does not load.
strip -o "$build/kernel-tuned/vmlinux.new" "$work/objects/vmlinux"
mv "$build/kernel-tuned/vmlinux.new" "$build/kernel-tuned/vmlinux"
