#!/usr/bin/env bash
# Trains on a slice of Cloud TPU VMs (v4 to v6e).
set -euo pipefail
PROGRAM=tpu_vm.sh
# shellcheck source=calls.sh
source "$(dirname "${BASH_SOURCE[0]}")/calls.sh"

usage() {
  cat <<'TEXT'
usage: tpu_vm.sh COMMAND --project P --zone Z --name N [OPTIONS] [-- OPTIONS OF rvpo train]

  create   --type v6e-16    a slice, by a queued resource; waits until it is there
  install  --wheel FILE     the wheel, pinned, and all it needs, on every worker
  run      --workdir gs://BUCKET/RUN -- ...   rvpo train on every worker; resumes
  up       create, install, run; deletes the slice where one of them fails
  watch    waits for the end, makes the slice anew when it was preempted, deletes it at the end;
           takes the options of up
  logs     follows the log of worker 0, or --worker I
  stop     saves and stops the run; the slice stays
  delete   the slice

  --spot | --reserved       how it is paid for; default: on demand
  --direct                  without a queue: now, or an error
  --runtime VERSION         of the TPU software; default: the type's own
  --service-account EMAIL   which the workers are; project.sh prints it
  --with PATH               a file or folder that rvpo train reads; again for another
  --fetch gs://BUCKET/PATH  a folder that each worker copies beside it; again for another
  --keep                    deletes nothing when a step fails
  --every SECONDS           between two looks (60)
  --dry-run                 prints every call and makes none
TEXT
}

prepare() { # COMMAND: checks everything before the first call
  check_place
  AT=("--project=$PROJECT" "--zone=$ZONE")
  GROUP=queued-resources
  [[ -z $DIRECT ]] || GROUP=tpu-vm
  check --worker "$WORKER" '[0-9]{1,4}' 'the number of a worker' 'Example: --worker 0'
  case $1 in create | up | watch)
    look_up_type
    [[ $VM_TYPE != - ]] || refuse "--type must be one with Cloud TPU VMs, got $TYPE." \
      'Use gke.sh: from TPU7x on there is only Google Kubernetes Engine.'
    check --runtime "${RUNTIME:=$VM_RUNTIME}" '[a-z0-9.-]+' 'a TPU software version' \
      'See: gcloud compute tpus tpu-vm versions list'
    [[ -z $SPOT || -z $RESERVED ]] || refuse '--spot must stand alone, got --reserved too.' \
      'Choose one of the two.'
    check_account
    ;;
  esac
  case $1 in install | up | watch) check_files ;; esac
  case $1 in run | up | watch)
    check_workdir
    check_train_options
    ;;
  esac
}

name_slice() { printf 'the slice %s in %s of %s' "$NAME" "$ZONE" "$PROJECT"; }

list_slice() {
  ask '' gcloud compute tpus "$GROUP" list "${AT[@]}" "--filter=name~(^|/)$NAME\$" \
    '--format=value(name)'
}

delete_slice() { # force: with the nodes that it holds
  local force=()
  [[ -n $DIRECT ]] || force=(--force)
  call gcloud compute tpus "$GROUP" delete "$NAME" "${AT[@]}" "${force[@]}" --quiet
}

on_workers() { # WORKER COMMAND
  call gcloud compute tpus tpu-vm ssh "$NAME" "${AT[@]}" "--worker=$1" --quiet "--command=$2"
}

copy() { # PATH...: into /opt/rvpo of every worker
  call gcloud compute tpus tpu-vm scp "$@" "$NAME:/opt/rvpo/" "${AT[@]}" --worker=all --recurse \
    --quiet
}

create() {
  local options=("${AT[@]}" "--accelerator-type=$VM_TYPE" --scopes=cloud-platform --quiet)
  [[ -z $SPOT ]] || options+=(--spot)
  [[ -z $RESERVED ]] || options+=(--reserved)
  [[ -z $ACCOUNT ]] || options+=("--service-account=$ACCOUNT")
  if [[ -n $DIRECT ]]; then
    make slice gcloud compute tpus tpu-vm create "$NAME" "--version=$RUNTIME" "${options[@]}"
    return
  fi
  make slice gcloud compute tpus queued-resources create "$NAME" "--node-id=$NAME" \
    "--runtime-version=$RUNTIME" "${options[@]}"
  wait_for_slice
}

state() { # of the slice; UNKNOWN where it could not be asked for
  local field='value(state.state)' answer=ACTIVE
  [[ -z $DIRECT ]] || field='value(state)' answer=READY
  ask "$answer" gcloud compute tpus "$GROUP" describe "$NAME" "${AT[@]}" "--format=$field" ||
    printf 'UNKNOWN\n'
}

wait_for_slice() {
  local now last='' unknown=0
  while true; do
    now=$(state)
    [[ $now == "$last" ]] || say "the queued resource is $now"
    last=$now
    case $now in
      ACTIVE) return ;;
      UNKNOWN) ((++unknown < 10)) || fail 'the queued resource could not be asked for, ten times.' ;;
      FAILED | SUSPEND* | DELETING) fail "the queued resource is $now and never becomes ACTIVE." ;;
    esac
    pause
  done
}

# A worker of a new slice may refuse its first connections.
reach_workers() {
  local attempt
  for attempt in 1 2 3 4 5; do
    on_workers all "$1" && return
    say "not every worker answers (attempt $attempt of 5)"
    pause
  done
  fail 'a worker cannot be reached.'
}

install() {
  local uri uv='python3 -m uv'
  reach_workers "sudo install --directory --owner=\"\$(id --user --name)\" /opt/rvpo"
  copy "$WHEEL" "$HERE/constraints.txt" "${WITH[@]}"
  on_workers all "cd /opt/rvpo && echo '$CHECKSUM  $PACKAGE' | sha256sum --check --quiet && \
python3 -m pip install --quiet --user uv==0.9.5 && $uv venv --quiet --clear --python 3.11 venv && \
$uv pip install --quiet --python venv --constraint constraints.txt './${PACKAGE}[$EXTRAS]'"
  for uri in "${FETCH[@]}"; do
    on_workers all "gcloud storage cp --recursive $uri /opt/rvpo/"
  done
}

run() {
  local option tail=''
  for option in "${OPTIONS[@]}"; do tail+=" $option"; done
  TEMP=$(mktemp -d)
  fill "$HERE/rvpo.service" NAME "$NAME" WORKDIR "$WORKDIR" OPTIONS "$tail" \
    >"$TEMP/rvpo.service"
  copy "$TEMP/rvpo.service"
  [[ -z $DRY_RUN ]] || sed 's/^/  | /' "$TEMP/rvpo.service"
  on_workers all 'sudo mv /opt/rvpo/rvpo.service /etc/systemd/system/rvpo.service && \
sudo systemctl daemon-reload && sudo systemctl enable --quiet rvpo && sudo systemctl restart rvpo'
  say "the run trains in $WORKDIR; the slice costs money until: $PROGRAM watch, or delete"
}

up() {
  create
  install
  run
}

progress() { # of the run, as systemd of worker 0 says; nothing where it does not answer
  ask $'ActiveState=inactive\nResult=success' gcloud compute tpus tpu-vm ssh "$NAME" "${AT[@]}" \
    --worker=0 --quiet '--command=systemctl show rvpo --property=ActiveState --property=Result' ||
    true
}

# Until the run ends. A preempted slice is deleted and made anew; the run resumes from its workdir.
watch() {
  local report
  while true; do
    case $(state) in
      ACTIVE | READY)
        report=$(progress)
        case $report in
          *ActiveState=inactive*Result=success* | *Result=success*ActiveState=inactive*)
            say 'the run has ended well.'
            FOUND=()
            delete_all slice
            return
            ;;
          *ActiveState=failed*) end_failed_run ;;
        esac
        ;;
      SUSPEND* | FAILED | PREEMPTED | TERMINATED)
        say 'the slice was preempted; making it anew.'
        FOUND=()
        delete_all slice
        up
        MADE=() FOUND=(slice)
        ;;
      UNKNOWN) is_there || fail 'there is no such slice any more.' ;;
    esac
    pause
  done
}

is_there() { # true also where it cannot be looked for
  local found
  found=$(list_slice) || return 0
  [[ -n $found ]]
}

end_failed_run() {
  on_workers all 'sudo journalctl --unit=rvpo --output=cat --lines=100 --no-pager' || true
  MADE=(slice) FOUND=()
  fail "the run failed; its last lines stand above, its checkpoints in $WORKDIR."
}

main() {
  local command=${1:---help}
  case $command in
    -h | --help) usage && return ;;
    create | install | run | up | watch | logs | stop | delete) ;;
    *) refuse "there is no command $(printf '%q' "$command")." "See: $PROGRAM --help" ;;
  esac
  shift
  parse "$@"
  prepare "$command"
  case $command in create | up | delete) ;; *) FOUND=(slice) ;; esac
  case $command in
    logs) on_workers "$WORKER" 'sudo journalctl --unit=rvpo --output=cat --lines=200 --follow' ;;
    stop)
      on_workers all 'sudo systemctl disable --quiet --now rvpo'
      tell slice
      ;;
    delete) delete_all slice ;;
    *) "$command" ;;
  esac
}

main "$@"
