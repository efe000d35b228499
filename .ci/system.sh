# Sourced by .ci/run: install what is missing from the distribution, and find a Python >= 3.10.
# shellcheck shell=bash

needed=(g++ python3-dev python3-venv)
# binutils: the tests of symbols and instructions; ccache: three stages build the package; the cross compiler and qemu:
# NEON; the data set: the accuracy test
wanted=(binutils ccache g++-aarch64-linux-gnu qemu-user dataset-fashion-mnist)

as_root=()
if [ "$(id -u)" != 0 ]; then as_root=(sudo -n); fi

# installed PACKAGE
installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'install ok installed'; }

# install PACKAGE...: those which are missing. Fails if one of them cannot be had.
install() {
  local package missing=()
  for package in "$@"; do installed "$package" || missing+=("$package"); done
  if [ ${#missing[@]} = 0 ]; then return 0; fi
  echo "installing ${missing[*]}"
  if [ -z "${updated-}" ]; then
    "${as_root[@]}" apt-get update -qq >/dev/null || true # one unreachable source must not stop the others
    updated=1
  fi
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

if command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then
  install "${needed[@]}" || die "cannot install ${needed[*]}"
  for package in "${wanted[@]}"; do
    install "$package" || echo "no $package: the tests that need it skip, builds take longer"
  done
else
  echo "no apt-get, or no right to use it: going on with what is there"
fi

suitable() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

for python in python3 python3.14 python3.13 python3.12 python3.11 python3.10 none; do
  if suitable "$python"; then break; fi
done
[ "$python" != none ] || die "no Python >= 3.10 with venv found"
if [ "$python" != python3 ]; then
  mkdir -p "$FASTNN_CI_WORK/bin"
  ln -sf "$("$python" -c 'import sys; print(sys.executable)')" "$FASTNN_CI_WORK/bin/python3"
  PATH="$FASTNN_CI_WORK/bin:$PATH"
  export PATH
fi
python3 --version
c++ --version | head -n 1 || die "no C++ compiler"
