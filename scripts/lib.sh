# Shared by the scripts beside it; sourced, not run. Debian and Ubuntu.

# Ends the script with a sentence on what is wrong.
fail() {
    printf '\n%s: %s\n' "$(basename "$0")" "$1" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this must be run as root, or sudo must be installed: $*"
    fi
}

missing_packages=()

# need_package PACKAGE REASON TEST...: notes PACKAGE as missing when the command TEST fails.
need_package() {
    local package=$1 reason=$2
    shift 2
    if ! "$@" >/dev/null 2>&1; then
        printf 'missing: %s (%s)\n' "$package" "$reason"
        missing_packages+=("$package")
    fi
}

# Installs by apt what need_package has noted, and nothing when all is there.
install_missing_packages() {
    if [ "${#missing_packages[@]}" -eq 0 ]; then
        return
    fi
    command -v apt-get >/dev/null || fail "install these packages, then run this again: ${missing_packages[*]}"
    printf 'installing by apt: %s\n' "${missing_packages[*]}"
    as_root apt-get update -qq || fail "apt-get update did not work; its own message is above"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing_packages[@]}" ||
        fail "apt-get could not install ${missing_packages[*]}; its own message is above"
    missing_packages=()
}

# What building Segl takes beside a Rust toolchain: aws-lc-rs holds C and assembler, and rustc links with cc.
need_build_packages() {
    if ! command -v cargo >/dev/null && [ -x "$HOME/.cargo/bin/cargo" ]; then
        PATH="$HOME/.cargo/bin:$PATH"
    fi
    command -v cargo >/dev/null || fail "there is no cargo; install Rust first (https://rustup.rs)"
    need_package gcc "C compiler and linker, for aws-lc-rs" command -v cc
    need_package libc6-dev "C headers, for aws-lc-rs" test -e /usr/include/stdlib.h
}

# The PKCS#11 device in software that tests and demo sign with.
need_softhsm() {
    need_package softhsm2 "PKCS#11 device in software" command -v softhsm2-util
}

# What building Kryoptic takes: bindings to OpenSSL are made by libclang, and it stores in SQLite.
need_kryoptic_packages() {
    need_package libssl-dev "OpenSSL headers, for Kryoptic" test -e /usr/include/openssl/ssl.h
    need_package pkg-config "finds OpenSSL and SQLite, for Kryoptic" command -v pkg-config
    need_package libsqlite3-dev "SQLite headers, for Kryoptic" test -e /usr/include/sqlite3.h
    need_package libclang-dev "libclang, for Kryoptic" compgen -G "/usr/lib/llvm-*/lib/libclang.so*"
}
