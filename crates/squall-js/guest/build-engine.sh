#!/bin/sh
# Builds engine.wasm: QuickJS-ng with the glue of this folder. The same bytes come out wherever it
# runs; engine.wasm.sha256 says which.
#
#   build-engine.sh [folder]   writes engine.wasm and engine.wasm.sha256 there (default: beside this)
#
# Needs python3 with venv, cargo and patch. Compiler and sources are fetched once, pinned: the
# compiler is the PyPI package ziglang, the sources are in the crate rquickjs-sys (cargo checks the
# crate against the index, glue/quickjs.sha256 the files).
set -eu

ZIG_VERSION=0.17.1
CRATE=rquickjs-sys
CRATE_VERSION=0.14.0

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-$here}"
out=$(cd "${1:-$here}" && pwd)
cache=${SQUALL_CACHE:-$HOME/.cache/squall}
glue=$here/glue

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The compiler.
zig_home=$cache/zig/$ZIG_VERSION
if [ ! -e "$zig_home/ready" ]; then
    python3 -m venv "$zig_home"
    "$zig_home/bin/pip" install --quiet "ziglang==$ZIG_VERSION"
    touch "$zig_home/ready"
fi

# The sources. A crate that only names the dependency makes cargo fetch it.
mkdir -p "$work/fetch/src"
: > "$work/fetch/src/lib.rs"
cat > "$work/fetch/Cargo.toml" <<TOML
[package]
name = "fetch"
version = "0.0.0"
edition = "2021"
[dependencies]
$CRATE = "=$CRATE_VERSION"
[workspace]
TOML
(cd "$work/fetch" && { cargo fetch --quiet --offline 2>/dev/null || cargo fetch --quiet; })
sources=$(cd "$work/fetch" && cargo metadata --format-version 1 --offline --quiet |
    python3 -c "
import json, os, sys
for package in json.load(sys.stdin)['packages']:
    if package['name'] == '$CRATE':
        print(os.path.dirname(package['manifest_path']))")
mkdir "$work/build"
cd "$work/build"
cp "$sources"/quickjs/*.c "$sources"/quickjs/*.h .
sha256sum --quiet -c "$glue/quickjs.sha256"
patch --quiet -p1 < "$glue/quickjs.patch"
cp "$glue"/*.c "$glue"/*.h .

# Paths are relative, so that none gets into the module. The linker puts the stack (1 MiB, as
# engine.c knows) at the bottom: running over it traps and harms nothing.
"$zig_home/bin/python" -m ziglang cc -target wasm32-wasi -mexec-model=reactor -O3 \
    -mcpu=generic+bulk_memory+sign_ext+nontrapping_fptoint+simd128 \
    -DNDEBUG -D_GNU_SOURCE -DSQUALL_BLOCKS -D_WASI_EMULATED_SIGNAL \
    -Wall -Wno-unused-but-set-variable -Wno-ignored-attributes \
    -Wl,-z,stack-size=1048576 -Wl,--initial-memory=1310720 \
    -Wl,--export=__stack_pointer -Wl,--strip-debug -I. \
    chance.c engine.c host.c inside.c libc.c memory.c modules.c text.c values.c \
    libregexp.c libunicode.c dtoa.c -o engine.wasm

if grep -q wasi_snapshot engine.wasm; then
    echo "engine.wasm imports from WASI; see glue/libc.h" >&2
    exit 1
fi
mv engine.wasm "$out/engine.wasm"
cd "$out"
sha256sum engine.wasm > engine.wasm.sha256
cat engine.wasm.sha256
