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

# What encrypts a PIN that is kept as a credential.
need_systemd_creds() {
    need_package systemd "systemd-creds, which encrypts credentials" command -v systemd-creds
}

# The PKCS#11 device in software that tests and demo sign with.
need_softhsm() {
    need_package softhsm2 "PKCS#11 device in software" command -v softhsm2-util
}

# What every PKCS#11 module in the tests takes: pkcs11-tool makes devices, pkcs11-spy counts calls, setpriv ends what a
# test has started when the test ends.
need_device_tools() {
    need_package opensc "pkcs11-tool, which makes devices" command -v pkcs11-tool
    need_package opensc-pkcs11 "pkcs11-spy, which counts calls to the device" compgen -G "/usr/lib/*/pkcs11-spy.so"
    need_package util-linux "setpriv, which ends what a test has started" command -v setpriv
}

# SoftHSM2 behind a socket.
need_p11_kit() {
    need_softhsm
    need_package p11-kit "server of a PKCS#11 device" test -x /usr/libexec/p11-kit/p11-kit-server
    need_package p11-kit-modules "client of a p11-kit server" compgen -G "/usr/lib/*/pkcs11/p11-kit-client.so"
}

# A TPM in software, the resource manager that shares it, the bus that leads to the manager, and PKCS#11 on top.
need_tpm2() {
    need_package swtpm "TPM in software" command -v swtpm
    need_package tpm2-abrmd "resource manager of a TPM" command -v tpm2-abrmd
    need_package libtss2-tcti-swtpm0 "way from the resource manager to the TPM" compgen -G "/usr/lib/*/libtss2-tcti-swtpm.so.0"
    need_package libtss2-tcti-tabrmd0 "way to the resource manager" compgen -G "/usr/lib/*/libtss2-tcti-tabrmd.so.0"
    need_package libtpm2-pkcs11-1 "PKCS#11 on a TPM" compgen -G "/usr/lib/*/pkcs11/libtpm2_pkcs11.so"
    need_package dbus-daemon "bus to the resource manager" command -v dbus-daemon
    need_package dbus-bin "dbus-send, which asks whether the resource manager is there" command -v dbus-send
    need_package dbus-session-bus-common "configuration of a private bus" test -e /usr/share/dbus-1/session.conf
}

# NSS softokn, the key database of Firefox.
need_nss() {
    need_package libnss3 "NSS softokn" compgen -G "/usr/lib/*/libsoftokn3.so"
    need_package libnss3-tools "certutil, which makes NSS databases" command -v certutil
}

# What building Kryoptic takes: bindings to OpenSSL are made by libclang, and it stores in SQLite.
need_kryoptic_packages() {
    need_package libssl-dev "OpenSSL headers, for Kryoptic" test -e /usr/include/openssl/ssl.h
    need_package pkg-config "finds OpenSSL and SQLite, for Kryoptic" command -v pkg-config
    need_package libsqlite3-dev "SQLite headers, for Kryoptic" test -e /usr/include/sqlite3.h
    need_package libclang-dev "libclang, for Kryoptic" compgen -G "/usr/lib/llvm-*/lib/libclang.so*"
}

# What a grant by hand takes.
need_openssl_and_curl() {
    need_package openssl "signs a grant by hand" command -v openssl
    need_package curl "sends a grant by hand" command -v curl
}

# Python, for clients that are not Segl; their packages come from PyPI, into an environment of the tests' own.
need_python() {
    need_package python3 "clients that are not Segl" command -v python3
    need_package python3-venv "an environment for their packages" python3 -c "import ensurepip"
}

# make_interop_environment: puts the packages of tests/interop/requirements.txt into target/interop. What is there already
# is not fetched again.
make_interop_environment() {
    local place=target/interop
    if ! cmp -s tests/interop/requirements.txt "$place/requirements.txt"; then
        rm -rf "$place"
        python3 -m venv "$place" &&
            "$place/bin/pip" install --quiet --disable-pip-version-check -r tests/interop/requirements.txt &&
            cp tests/interop/requirements.txt "$place/requirements.txt" ||
            { rm -rf "$place"; return 1; }
    fi
}
