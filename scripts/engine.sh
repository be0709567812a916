# An engine for containers, for the scripts beside it; sourced after lib.sh, not run.
#
# Where an engine answers already, it is used as it is. Else one of our own is started, with everything it writes in
# a folder of its own, and it goes away with the script. SEGL_START_ENGINE=no forbids that.

engine_folder=
engine_trouble=

need_engine() {
    # The command is a package of its own from Debian 13 on.
    if apt-cache show docker-cli >/dev/null 2>&1; then
        need_package docker-cli "talks to a container engine" command -v docker
    else
        need_package docker.io "talks to a container engine" command -v docker
    fi
    if ! engine_answers && may_start_engine; then
        need_package docker.io "container engine; none answers here" find_dockerd
    fi
}

engine_answers() {
    command -v docker >/dev/null && timeout 10 docker version >/dev/null 2>&1
}

may_start_engine() {
    if [ "${SEGL_START_ENGINE:-}" = no ]; then
        engine_trouble="no engine answers, and SEGL_START_ENGINE=no forbids to start one"
        return 1
    fi
    # A password would be asked for in the middle of the tests.
    if [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; then
        engine_trouble="no engine answers, and starting one takes root"
        return 1
    fi
}

# dockerd lies where only root's PATH looks.
find_dockerd() {
    PATH="$PATH:/usr/sbin:/sbin" command -v dockerd
}

# What tests/softhsm_container.rs takes beside the image.
need_network_hsm() {
    need_engine
    need_package p11-kit-modules "reaches a PKCS#11 device through a socket" \
        compgen -G "/usr/lib/*/pkcs11/p11-kit-client.so"
}

# Sets DOCKER_HOST to an engine that answers. When there is none to be had it fails, with the reason in engine_trouble.
start_engine() {
    if engine_answers; then
        # The tests know nothing of docker's contexts.
        DOCKER_HOST=$(docker context inspect --format '{{.Endpoints.docker.Host}}')
        export DOCKER_HOST
        return
    fi
    may_start_engine || return 1
    local dockerd
    dockerd=$(find_dockerd) || {
        engine_trouble="no engine answers, and dockerd is not installed"
        return 1
    }
    engine_folder=$(mktemp -d /tmp/segl-engine.XXXXXX)
    export DOCKER_HOST="unix://$engine_folder/docker.sock"
    # Without a bridge and without rules it leaves the network of this machine alone. Containers that need a network
    # must say --network host.
    as_root "$dockerd" --host "$DOCKER_HOST" --group "$(id -g)" --pidfile "$engine_folder/dockerd.pid" \
        --data-root "$engine_folder/data" --exec-root "$engine_folder/exec" \
        --iptables=false --ip6tables=false --bridge=none >"$engine_folder/log" 2>&1 &
    local begin=$SECONDS
    until engine_answers; do
        if ! [ -d "/proc/$!" ] || [ "$((SECONDS - begin))" -ge 30 ]; then
            engine_trouble="dockerd did not start: $(grep -v level=info "$engine_folder/log" | tail -n 1)"
            stop_engine
            unset DOCKER_HOST
            return 1
        fi
        sleep 0.1
    done
}

# Stops the engine that start_engine started, with its containers and images; one that was there already goes on.
stop_engine() {
    [ -n "$engine_folder" ] || return 0
    local begin=$SECONDS pid
    if pid=$(cat "$engine_folder/dockerd.pid" 2>/dev/null); then
        as_root kill "$pid" 2>/dev/null || true
        # It stops its containers first, and takes the file away last.
        while [ -e "$engine_folder/dockerd.pid" ] && [ "$((SECONDS - begin))" -lt 30 ]; do
            sleep 0.1
        done
    fi
    # It leaves the mount of a network name space behind.
    local mount
    while read -r _ mount _; do
        if [[ $mount == "$engine_folder"/* ]]; then
            as_root umount "$mount" || true
        fi
    done < <(tac /proc/mounts)
    # Never through a mount that is still there.
    if ! as_root rm -rf --one-file-system "$engine_folder"; then
        printf 'this folder could not be removed: %s\n' "$engine_folder" >&2
    fi
    engine_folder=
}
