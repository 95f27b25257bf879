# shellcheck shell=bash
# The appliance as a service: a systemd unit with a user of its own, or a launchd agent of this user on macOS. Knows where
# their files go and how to wait until the service answers. Knows nothing of how the appliance was installed.

readonly SERVICE_NAME=appliance.service
readonly SERVICE_USER=appliance
readonly SERVICE_PREFIX="$SYSTEM_ROOT/opt/appliance" # unless --prefix names another
readonly SERVICE_STATE="$SYSTEM_ROOT/var/lib/appliance"
readonly SERVICE_SETTINGS="$SYSTEM_ROOT/etc/appliance/appliance.toml"
readonly SERVICE_UNIT="$SYSTEM_ROOT/etc/systemd/system/$SERVICE_NAME"
readonly SERVICE_DROP_INS="$SERVICE_UNIT.d"
readonly AGENT_LABEL=local.appliance
readonly HEALTH_LIMIT_S=900 # the first start converts the model

# Where the settings of the service are; macOS has them in the home directory, as any other run there.
service_settings() {
    if [[ "$system" == Darwin ]]; then
        say "$HOME/.config/appliance/appliance.toml"
    else
        say "$SERVICE_SETTINGS"
    fi
}

agent_file() { say "$HOME/Library/LaunchAgents/$AGENT_LABEL.plist"; }

# Fails where a service cannot be installed or removed.
check_service_manager() {
    local verb=$1
    if [[ "$system" == Darwin ]]; then
        if ((EUID == 0)) && [[ -z "$SYSTEM_ROOT" ]]; then
            die "$verb the service" 'On macOS the service is an agent of your own user: run install.sh without sudo.'
        fi
        return
    fi
    if [[ ! -d "$SYSTEM_ROOT/run/systemd/system" ]]; then
        die "$verb the service" 'This system was not started by systemd.' \
            'Let your service manager run: appliance serve --config /etc/appliance/appliance.toml'
    fi
    if ((EUID != 0)) && [[ -z "$SYSTEM_ROOT" ]]; then
        die "$verb the service" 'This needs root: sudo ./install.sh --service'
    fi
}

# --- installing ------------------------------------------------------------------------------------------------------

# The settings as they come, unless there are some; on Linux also the user and its directory.
prepare_service_step() {
    local settings
    settings=$(service_settings)
    if [[ "$system" == Linux ]]; then
        make_service_user
    fi
    if [[ -e "$settings" ]]; then
        echo "$settings is kept"
    else
        mkdir -p -- "$(dirname -- "$settings")"
        cp -- "$CHECKOUT/systemd/appliance.toml" "$settings"
        chmod 644 -- "$settings"
    fi
}

make_service_user() {
    local group
    if ! id "$SERVICE_USER" >/dev/null 2>&1; then
        useradd --system --user-group --no-create-home --home-dir "$SERVICE_STATE" --shell /usr/sbin/nologin \
            --comment 'The appliance' "$SERVICE_USER"
    fi
    if [[ "$accelerator" == cuda ]]; then
        for group in video render; do # they own the GPU's devices on a Jetson
            if getent group "$group" >/dev/null; then
                usermod --append --groups "$group" "$SERVICE_USER"
            fi
        done
    fi
    # The unit's StateDirectory= makes it too, but the check of the CPU, which runs before, remembers its result there.
    mkdir -p -- "$SERVICE_STATE"
    chmod 750 -- "$SERVICE_STATE"
    chown -R "$SERVICE_USER:$SERVICE_USER" "$SERVICE_STATE"
}

# Runs COMMAND as the service would: as its user, with its directories.
as_service_user() {
    if [[ "$system" == Darwin ]]; then
        "$@"
    else
        (
            cd -- "$SERVICE_STATE"
            exec runuser -u "$SERVICE_USER" -- env -i PATH="$PATH" HOME="$SERVICE_STATE" XDG_DATA_HOME="$SYSTEM_ROOT/var/lib" \
                XDG_STATE_HOME="$SYSTEM_ROOT/var/lib" "$@"
        )
    fi
}

# The unit, or the agent, as it is to be installed.
render_service() {
    if [[ "$system" == Darwin ]]; then
        sed -e "s|@VENV@|$(sed_text "$venv_dir")|g" -e "s|@HOME@|$(sed_text "$HOME")|g" "$CHECKOUT/launchd/$AGENT_LABEL.plist"
    else
        sed "s|/opt/appliance|$(sed_text "$prefix")|g" "$CHECKOUT/systemd/$SERVICE_NAME"
    fi
}

# TEXT with what sed's replacement takes as special quoted.
sed_text() { printf '%s' "$1" | sed 's/[&|\\]/\\&/g'; }

service_file() {
    if [[ "$system" == Darwin ]]; then
        agent_file
    else
        say "$SERVICE_UNIT"
    fi
}

# Whether what runs is what would be installed; then nothing needs to be restarted.
is_service_current() {
    local file
    file=$(service_file)
    [[ -f "$file" && "$(render_service)" == "$(cat -- "$file")" ]] || return 1
    if [[ "$system" == Darwin ]]; then
        launchctl print "gui/$UID/$AGENT_LABEL" >/dev/null 2>&1
    else
        is_drop_in_current && systemctl is-active --quiet "$SERVICE_NAME"
    fi
}

is_drop_in_current() {
    if [[ "$accelerator" == cuda ]]; then
        cmp -s "$SERVICE_DROP_INS/gpu.conf" "$CHECKOUT/systemd/gpu.conf"
    else
        [[ ! -e "$SERVICE_DROP_INS/gpu.conf" ]]
    fi
}

start_service_step() {
    local file
    file=$(service_file)
    mkdir -p -- "$(dirname -- "$file")"
    render_service >"$file.new"
    mv -f -- "$file.new" "$file"
    if [[ "$system" == Darwin ]]; then
        mkdir -p -- "$HOME/Library/Logs"
        launchctl bootout "gui/$UID/$AGENT_LABEL" 2>/dev/null || echo 'it was not loaded before'
        launchctl bootstrap "gui/$UID" "$file"
        return
    fi
    if [[ "$accelerator" == cuda ]]; then
        mkdir -p -- "$SERVICE_DROP_INS"
        cp -- "$CHECKOUT/systemd/gpu.conf" "$SERVICE_DROP_INS/gpu.conf"
    else
        rm -f -- "$SERVICE_DROP_INS/gpu.conf"
    fi
    systemctl daemon-reload
    systemctl enable "$SERVICE_NAME"
    systemctl reset-failed "$SERVICE_NAME" || echo 'it had not failed before'
    systemctl restart --no-block "$SERVICE_NAME"
}

# The address of /health, from the settings that the service reads.
service_health_url() {
    as_service_user "$venv_dir/bin/python" -I - "$(service_settings)" <<'END'
import os
import sys

from appliance.settings import ServeSettings, load

settings = load(ServeSettings, {"config": sys.argv[1]}, os.environ)
host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
print(f"http://[{host}]:{settings.port}/health" if ":" in host else f"http://{host}:{settings.port}/health")
END
}

# Whether URL answers 200; asked without any proxy.
answers() {
    "$venv_dir/bin/python" -I - "$1" 2>/dev/null <<'END'
import sys
import urllib.request

opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
opener.open(sys.argv[1], timeout=5).close()
END
}

await_health_step() {
    local url deadline=$((SECONDS + HEALTH_LIMIT_S))
    url=$(service_health_url)
    echo "waiting for $url"
    until answers "$url"; do
        if [[ "$system" == Linux ]] && systemctl is-failed --quiet "$SERVICE_NAME"; then
            journalctl --unit "$SERVICE_NAME" --lines 20 --no-pager --output cat
            echo 'The service failed. See: journalctl -u appliance'
            return 1
        fi
        if ((SECONDS >= deadline)); then
            echo "$url did not answer within $HEALTH_LIMIT_S s. See: $(service_log_hint)"
            return 1
        fi
        sleep 1
    done
    echo "$url answers"
}

service_log_hint() {
    if [[ "$system" == Darwin ]]; then
        say "$HOME/Library/Logs/appliance.log"
    else
        say 'journalctl -u appliance'
    fi
}

# --- removing --------------------------------------------------------------------------------------------------------

# Leaves the settings, and the models, which then belong to root: a later user could get the number of the removed one.
remove_service() {
    if [[ "$system" == Darwin ]]; then
        if [[ -e "$(agent_file)" ]]; then
            launchctl bootout "gui/$UID/$AGENT_LABEL" 2>/dev/null || say '  note  The agent was not loaded.'
            remove "$(agent_file)"
        fi
        return
    fi
    if [[ -e "$SERVICE_UNIT" ]]; then
        systemctl disable --now "$SERVICE_NAME"
        remove "$SERVICE_UNIT" "$SERVICE_DROP_INS"
        systemctl daemon-reload
    fi
    if [[ -d "$SERVICE_STATE" ]]; then
        find "$SERVICE_STATE" -mindepth 1 -maxdepth 1 ! -name models -exec rm -rf -- {} +
        say "  ok    Removed everything in $SERVICE_STATE except the models"
        rmdir "$SERVICE_STATE" 2>/dev/null || chown -R root:root "$SERVICE_STATE"
    fi
    if id "$SERVICE_USER" >/dev/null 2>&1; then
        userdel "$SERVICE_USER"
        say "  ok    Removed the user $SERVICE_USER"
    fi
}
