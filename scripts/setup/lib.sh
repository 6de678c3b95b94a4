# Shared by the scripts: where the cache is, and how to enter the reference root. Source it.
set -euo pipefail

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
CACHE=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/lio-rs
# Everything the root depends on goes into its key; a change makes a new root.
ROOT_KEY=$(cat "$TOP"/scripts/setup/{packages,kernel,root,requirements.txt} | sha256sum | cut -c1-12)
ROOT=$CACHE/root-$ROOT_KEY
BUILD_TREE=/opt/lio/build   # the kernel build tree with Rust metadata, inside the root

die() { echo "lio-rs: $*" >&2; exit 1; }
say() { echo "lio-rs: $*" >&2; }

need_root() { [ "$(id -u)" = 0 ] || die "this needs root: it makes a Debian 13 root file system and chroots into it"; }
need_machine() {
	need_root
	[ "$(uname -m)" = x86_64 ] || die "only x86-64 machines are supported, this one is $(uname -m)"
	local id=unknown version=0
	[ -r /etc/os-release ] && { id=$(. /etc/os-release; echo "$ID"); version=$(. /etc/os-release; echo "${VERSION_ID:-0}"); }
	case "$id:$version" in
	debian:12*|debian:13*) ;;
	*) die "set-up knows Debian 12 and 13 only, this machine says '$id $version'" ;;
	esac
	# A machine has it; a container of Debian 13 may not.
	command -v mount > /dev/null || {
		say "set-up: installing mount"
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends mount; } > /dev/null ||
			die "this needs mount(8), and apt-get could not install it"
	}
}

# A flavour is a kernel beside the reference one: scripts/setup/NAME makes it, once, in the cache, where DIR/build is the
# tree that modules are built against, DIR/root holds lib/modules/RELEASE, DIR/bzImage boots, and DIR/release is its name.
FLAVOURS=(debug kcsan rt)
# flavour NAME: sets FLAVOUR, FLAVOUR_DIR (by all that it depends on), FLAVOUR_AT (where that is in the root) and
# FLAVOUR_MAKE (what make is told besides, to build modules for it).
flavour() {
	local files key
	case $1 in
	debug) files=(debug{,.config,.modules}) FLAVOUR_MAKE=(LLVM=-19) ;;
	kcsan) files=(kcsan{,.config} debug.{config,modules}) FLAVOUR_MAKE=(LLVM=-19 "KRUSTFLAGS=$(cat "$TOP/scripts/setup/kcsan.rustflags")") ;;
	rt) files=(rt tree) FLAVOUR_MAKE=(CC=x86_64-linux-gnu-gcc-14) ;;
	*) die "there is no flavour $1 of the kernel, only: ${FLAVOURS[*]}" ;;
	esac
	key=$({ cat "${files[@]/#/$TOP/scripts/setup/}" "$ROOT/opt/kernel-release"
		chroot "$ROOT" dpkg-query -W rustc clang-19 lld-19 bindgen "linux-source-*"; } | sha256sum | cut -c1-12)
	FLAVOUR=$1 FLAVOUR_DIR=$CACHE/$1-$key FLAVOUR_AT=/opt/lio/$1
}
# The same in the names that scripts/setup/debug uses.
DEBUG_AT=/opt/lio/debug
debug_dir() { flavour debug; DEBUG=$FLAVOUR_DIR; }

# fuzz_home: sets FUZZ_HOME, cargo's folder in the cache with the crates that tests/fuzz needs; in the root it is at FUZZ_AT.
FUZZ_AT=/opt/lio/fuzz
fuzz_home() { FUZZ_HOME=$CACHE/fuzz-$(cat "$TOP"/scripts/setup/fuzz "$TOP"/tests/fuzz/Cargo.lock | sha256sum | cut -c1-12); }

# in_root [--dir DIR]... [--at DIR PATH]... -- CMD...: runs CMD in the root, in mount and PID namespaces of its own, with
# the checkout, each DIR and each file (--file F) at the same path or at PATH, and in the checkout's folder if there is
# no other.
in_root() {
	need_root
	local dirs=("$TOP" "$TOP")
	while [ "${1-}" != -- ]; do
		case $1 in
		--at) dirs+=("$2" "$3"); shift 3 ;;
		*) dirs+=("$2" "$2"); shift 2 ;;
		esac
	done
	shift
	unshare --mount --pid --fork --kill-child -- bash -c '
		set -e
		root=$1; top=$2; n=$3; shift 3
		mount --bind "$root" "$root"
		mount -t proc proc "$root/proc"
		mount -t sysfs sysfs "$root/sys"
		mount --rbind /dev "$root/dev"
		mount -t tmpfs tmpfs "$root/tmp"
		mount -t tmpfs -o mode=755 tmpfs "$root/run"
		for ((i = 0; i < n; i += 2)); do
			if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$root${2%/*}"; [ -e "$root$2" ] || : > "$root$2"; fi
			mount --bind "$1" "$root$2"
			shift 2
		done
		cp /etc/resolv.conf "$root/run/resolv.conf" 2>/dev/null || true
		cd /
		# Not by exec: the namespace ends with its first process, to which orphans go. make(1) is not made to be that,
		# and was seen to spin for ever.
		chroot "$root" env -i HOME=/root LANG=C.UTF-8 TERM="${TERM-dumb}" CI="${CI-}" \
			PATH=/opt/lio/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
			CARGO_TARGET_DIR="$top/target" \
			bash -c '\''cd "$0" && exec "$@"'\'' "$top" "$@"
		exit $?
	' in_root "$ROOT" "$TOP" "${#dirs[@]}" "${dirs[@]}" "$@"
}

# copy_sources DIR: brings DIR, in the checkout, up to date with what Kbuild reads, for a build that must not disturb the
# checkout's own. What an earlier build left in DIR stays.
copy_sources() {
	in_root -- rsync -a --delete --delete-excluded --prune-empty-dirs --filter="P *.o" --filter="P *.rmeta" --filter="P *.cmd" \
		--filter="P *_generated.*" --filter="P *.mod*" --filter="P *.d" --filter="P *.ko" --filter="P modules.order" \
		--filter="P Module.symvers" --exclude=/out --exclude=/target --exclude="*_generated.*" --exclude="*.mod.c" \
		--include="*/" --include="*.rs" --include="*.[ch]" --include="*.S" --include=Kbuild --exclude="*" ./ "$1/"
}
