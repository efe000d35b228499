#!/bin/sh
# Builds and runs the parity program, and teams.cpp, without CMake or Python: for this machine, or for aarch64 under qemu.
#   csrc/parity/run.sh            this machine: every x86 instruction set it has + AVX-512's source on AVX2
#   csrc/parity/run.sh aarch64    cross-compiled, run by qemu-aarch64 (Debian: g++-aarch64-linux-gnu, qemu-user)
#                                 with CXXFLAGS=-march=armv8.2-a+dotprod int8's dot products, too
#   csrc/parity/run.sh avx512     the AVX-512 kernels on an emulated CPU (10 minutes; see avx512_emulated.sh)
# CXX chooses another compiler; CXXFLAGS are added (e.g. -fsanitize=undefined); OPENMP= builds without OpenMP; OBJECTS is
# a build directory of the package, whose compiled kernels are tried: what is shipped, and 4 minutes less.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
target=${1:-native}

common="-std=c++20 -Wall -Wextra -Wno-psabi -Wno-uninitialized -Wno-maybe-uninitialized ${CXXFLAGS:-}"
kernels="-O3 -fPIC -fvisibility=hidden -ffp-contract=fast -fno-math-errno -fno-trapping-math"
avx2="-mno-mmx -mavx2 -mfma -mf16c -mbmi -mbmi2"
avx512="-mavx512f -mavx512vl -mavx512dq -mavx512bw -mprefer-vector-width=512"
names= libraries=

table() {  # C++ name, name for people, vector bytes, options: two objects
    isa=$1 name=$2 bytes=$3
    shift 3
    pids=
    for float in 0 1; do
        object=${OBJECTS:-/nowhere}/csrc/CMakeFiles/fastnn_kernels_${isa}_$float.dir/ops/table.cpp.o
        if [ -e "$object" ]; then
            cp "$object" "$out/${isa}_$float.o"
            continue
        fi
        $cxx $common $kernels "$@" -DFASTNN_ISA="$isa" -DFASTNN_ISA_NAME="\"$name\"" -DFASTNN_FLOAT=$float \
            -DFASTNN_VECTOR_BYTES="$bytes" -c "$here/ops/table.cpp" -o "$out/${isa}_$float.o" &
        pids="$pids $!"
    done
    for pid in $pids; do wait "$pid"; done
}

if [ "$target" = aarch64 ]; then
    cxx=${CXX:-aarch64-linux-gnu-g++} run="qemu-aarch64" link="-static -DFASTNN_HAVE_NEON"
    table neon neon 16
elif [ "$target" = avx512 ]; then
    cxx=${CXX:-g++} run="bash $here/parity/avx512_emulated.sh" names=avx512 libraries=-lquadmath
    link="-static -std=gnu++20 -DFASTNN_HAVE_X86 -DFASTNN_QUADMATH"
    table x86_64_v2 x86-64-v2 16 -mno-mmx -msse4.2 -mpopcnt
    table avx2 avx2 32 $avx2
    table avx512 avx512 64 $avx2 $avx512
else
    cxx=${CXX:-g++} run="" link="${OPENMP--fopenmp} -DFASTNN_HAVE_X86 -DFASTNN_LOWERED"
    table x86_64_v2 x86-64-v2 16 -mno-mmx -msse4.2 -mpopcnt
    table avx2 avx2 32 $avx2
    table avx512 avx512 64 $avx2 $avx512
    table lowered avx512-on-avx2 64 $avx2
fi
if [ "$target" != avx512 ]; then # its emulator is for the kernels
    $cxx $common -O2 $link "$here/parity/teams.cpp" "$here/engine/team.cpp" "$here/threads.cpp" -o "$out/teams"
    $run "$out/teams"
fi
sources=$(find "$here/parity" -name '*.cpp' ! -name teams.cpp)
mkdir "$out/program"
printf '%s\n' $sources "$here/dispatch.cpp" "$here/own.cpp" "$here/threads.cpp" "$here/engine/spec.cpp" |
    xargs -P "$(getconf _NPROCESSORS_ONLN)" -I{} sh -c \
        'exec "$@" -c {} -o "$0/program/$(basename {} .cpp).o"' "$out" $cxx $common -O2 $link
$cxx $common $link "$out"/*.o "$out"/program/*.o -o "$out/parity" $libraries
$run "$out/parity" $names
