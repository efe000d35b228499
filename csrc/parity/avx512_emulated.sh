#!/usr/bin/env bash
# Runs a static x86-64 Linux program on an emulated processor with AVX-512
# (F, CD, BW, DQ and VL), for machines whose own processor lacks it.
#
#   avx512_emulated.sh PROGRAM [ARGUMENT...]
#
# Bochs boots Debian's cloud kernel with an initial RAM disk that holds the
# program and busybox. The program's output (stdout and stderr, both through
# the emulated serial port) goes to stdout, and its exit status is this
# script's. A program killed by a signal gives 128 + the signal, and the
# kernel's last messages go to stderr. Status 124: out of time; 125: the
# emulator or the guest failed.
#
# Not all of the emulated processor is exact: the x87 logarithm (fyl2x, which
# logl, log1pl and powl of glibc use) is wrong by up to 2^-50, relatively.
# libquadmath's logq is right there. x87's exponential is accurate.
#
# It needs Debian 12 or later on x86-64; missing packages are installed with
# apt-get, which needs root. The kernel is only downloaded and unpacked.
#
# Environment:
#   AVX512_TIMEOUT   seconds for the boot and the program together (1800)
#   AVX512_MEMORY    memory of the emulated machine in MiB (512)
#   AVX512_CPU       a model of `bochs --help cpu` (corei7_skylake_x)
#   AVX512_KERNEL    a vmlinuz to boot in place of a downloaded one
#   AVX512_VERBOSE   1: print how long the boot and the program took
set -euo pipefail

fail() {
    echo "avx512_emulated: $*" >&2
    exit 125
}

[ $# -ge 1 ] || fail "usage: $0 PROGRAM [ARGUMENT...]"
program=$1
shift
[ -f "$program" ] || fail "no such file: $program"

timeout=${AVX512_TIMEOUT:-1800}
memory=${AVX512_MEMORY:-512}
model=${AVX512_CPU:-corei7_skylake_x}

scratch=$(mktemp -d)
emulator=
cleanup() {
    if [ -s "$scratch/pid" ]; then
        kill "$(cat "$scratch/pid")" 2>/dev/null || true
    fi
    if [ -n "$emulator" ]; then
        kill "$emulator" 2>/dev/null || true
        wait "$emulator" 2>/dev/null || true
    fi
    if [ -n "${drain:-}" ]; then
        kill "$drain" 2>/dev/null || true
        wait "$drain" 2>/dev/null || true
    fi
    rm -rf "$scratch"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# The packages. bochs-term is the display that needs no X server: it draws on
# a terminal, here the pseudo-terminal of script(1).
updated=
update() {
    if [ -z "$updated" ]; then
        apt-get -qq update >&2 || fail "apt-get update failed"
        updated=yes
    fi
}
missing=()
for package in bochs bochs-term isolinux syslinux-common xorriso cpio \
    bsdutils; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null |
        grep -q 'ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y \
        --no-install-recommends "${missing[@]}" >"$scratch/apt.log" 2>&1 || {
        cat "$scratch/apt.log" >&2
        fail "cannot install ${missing[*]}"
    }
fi

# Downloads a package and unpacks it under $scratch/unpacked.
unpack() {
    mkdir -p "$scratch/download" "$scratch/unpacked"
    (cd "$scratch/download" && apt-get -qq -o APT::Sandbox::User=root download "$1" 2>"$scratch/apt.log") ||
        { update && (cd "$scratch/download" &&
            apt-get -qq -o APT::Sandbox::User=root download "$1" 2>"$scratch/apt.log"); } || {
        cat "$scratch/apt.log" >&2
        fail "cannot download $1"
    }
    dpkg-deb -x "$scratch/download/$1"_*.deb "$scratch/unpacked"
}

# Unpacked only: it excludes the package busybox, which may be installed.
unpack busybox-static
busybox=$(find "$scratch/unpacked" -type f -path '*/bin/busybox' | head -n 1)
[ -n "$busybox" ] || fail "busybox-static holds no busybox"
kernel=${AVX512_KERNEL:-}
if [ -z "$kernel" ]; then
    [ -n "$(apt-cache depends linux-image-cloud-amd64 2>/dev/null)" ] || update
    package=$(apt-cache depends linux-image-cloud-amd64 |
        sed -n 's/^ *Depends: \(linux-image-[^ ]*\).*/\1/p' | head -n 1)
    [ -n "$package" ] || fail "no Debian kernel to download"
    unpack "$package"
    kernel=$(find "$scratch/unpacked/boot" -name 'vmlinuz-*' | head -n 1)
fi

# The initial RAM disk. /init prints markers around the program's output.
root=$scratch/root
mkdir -p "$root"/{bin,dev,proc,sys,tmp}
cp "$busybox" "$root/bin/busybox"
cp "$program" "$root/program"
chmod 755 "$root/bin/busybox" "$root/program"
begin="@@avx512-begin-$$-$RANDOM@@"
end="@@avx512-end-$$-$RANDOM@@"
arguments=
for argument in "$@"; do
    arguments+=" ${argument@Q}"
done
cat >"$root/init" <<EOF
#!/bin/busybox sh
b=/bin/busybox
\$b mount -t devtmpfs none /dev
\$b mount -t proc none /proc
\$b mount -t sysfs none /sys
exec </dev/null >/dev/ttyS0 2>&1
\$b stty raw -echo </dev/ttyS0
cd /tmp
echo "$begin"
HOME=/tmp PATH=/bin /program$arguments
status=\$?
echo
echo "$end \$status"
if [ \$status -ge 128 ]; then
    \$b dmesg | \$b tail -n 2
fi
echo "$end off"
# Waits until the serial port has sent everything.
\$b stty raw -echo </dev/ttyS0
\$b sleep 1
\$b poweroff -f
EOF
chmod 755 "$root/init"

# A CD that boots the kernel. noxsaves and clearcpuid=321 (xsavec): Bochs 2.7
# gives a wrong size for the compacted XSAVE area, and the kernel answers by
# turning AVX and AVX-512 off.
image=$scratch/image
mkdir -p "$image/isolinux"
cp /usr/lib/ISOLINUX/isolinux.bin \
    /usr/lib/syslinux/modules/bios/ldlinux.c32 "$image/isolinux/"
cp "$kernel" "$image/vmlinuz"
(cd "$root" && find . | cpio -o -H newc -R 0:0 --quiet) >"$image/initrd"
cat >"$image/isolinux/isolinux.cfg" <<EOF
default linux
prompt 0
label linux
  kernel /vmlinuz
  initrd /initrd
  append console=ttyS0,115200 loglevel=4 rdinit=/init panic=-1 nokaslr mitigations=off tsc=reliable no_timer_check lpj=1000000 nowatchdog random.trust_cpu=on noxsaves clearcpuid=321
EOF
xorriso -as mkisofs -quiet -o "$scratch/cd.iso" \
    -b isolinux/isolinux.bin -c isolinux/boot.cat \
    -no-emul-boot -boot-load-size 4 -boot-info-table "$image" \
    >"$scratch/xorriso.log" 2>&1 || {
    cat "$scratch/xorriso.log" >&2
    fail "cannot make the boot CD"
}

serial=$scratch/serial.log
: >"$serial"
cat >"$scratch/bochsrc" <<EOF
config_interface: textconfig
display_library: term
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
cpu: model=$model, count=1, ips=100000000, reset_on_triple_fault=0, ignore_bad_msrs=1
memory: guest=$memory, host=$memory
clock: sync=none, time0=946684800
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path=$scratch/cd.iso, status=inserted
boot: cdrom
com1: enabled=1, mode=file, dev=$serial
mouse: enabled=0
sound: waveoutdrv=dummy
speaker: enabled=0
log: $scratch/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
EOF

# Debian builds Bochs with its debugger, which waits to be told to continue.
echo c >"$scratch/debugger"

started=$SECONDS
# The pipe keeps script(1) from sending an end-of-file to the guest's keyboard.
tail -f /dev/null --pid=$$ | TERM=xterm script -qec \
    "stty rows 30 cols 100; echo \$\$ >'$scratch/pid'; exec bochs-bin -q -f '$scratch/bochsrc' -rc '$scratch/debugger'" \
    /dev/null >"$scratch/screen.log" 2>&1 &
emulator=$!

# Waits for the end marker, the emulator's end or the deadline. Bochs with its
# debugger draws on another pseudo-terminal, which it names, and stops for good
# when that is full: it is read and thrown away.
drain=
booted=
finished=
while :; do
    alive=yes
    kill -0 "$emulator" 2>/dev/null || alive=
    if [ -z "$drain" ]; then
        screen=$(sed -n 's/.*connected to screen "\([^"]*\)".*/\1/p' \
            "$scratch/screen.log")
        if [ -n "$screen" ] && stty raw -echo -F "$screen" 2>/dev/null; then
            cat "$screen" >/dev/null 2>&1 &
            drain=$!
        fi
    fi
    if [ -z "$booted" ] && grep -aqF "$begin" "$serial"; then
        booted=$SECONDS
    fi
    if grep -aqF "$end off" "$serial"; then
        finished=$SECONDS
        break
    fi
    [ -n "$alive" ] || break
    [ $((SECONDS - started)) -lt "$timeout" ] || break
    sleep 1
done

# The program's output: from after the begin marker to before the newline that
# /init puts in front of the end marker.
if [ -n "$booted" ]; then
    sed -n "/$begin/,/$end [0-9]/p" "$serial" | sed -e '1d' -e "/$end/d" |
        head -c -1
fi
if [ -z "$finished" ]; then
    if [ -z "$booted" ]; then
        echo "avx512_emulated: the guest did not start the program" >&2
        tail -n 30 "$serial" >&2
        if [ -f "$scratch/bochs.log" ]; then
            tail -n 30 "$scratch/bochs.log" >&2
        else
            tail -n 30 "$scratch/screen.log" >&2
        fi
    fi
    if [ $((SECONDS - started)) -ge "$timeout" ]; then
        echo "avx512_emulated: out of time after $timeout seconds" >&2
        exit 124
    fi
    fail "the emulator stopped before the program ended"
fi
status=$(sed -n "s/^$end \([0-9][0-9]*\).*/\1/p" "$serial" | tail -n 1)
if [ "$status" -ge 128 ]; then
    sed -n "/^$end [0-9]/,/^$end off/p" "$serial" | grep -av "$end" >&2 || true
fi
if [ "${AVX512_VERBOSE:-0}" = 1 ]; then
    echo "avx512_emulated: boot $((booted - started)) s," \
        "program $((finished - booted)) s, status $status" >&2
fi
exit "$status"
