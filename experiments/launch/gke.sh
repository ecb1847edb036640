#!/usr/bin/env bash
# Trains on a TPU slice in Google Kubernetes Engine, as a JobSet (v4 to TPU7x).
set -euo pipefail
PROGRAM=gke.sh
# shellcheck source=calls.sh
source "$(dirname "${BASH_SOURCE[0]}")/calls.sh"
OWN=yes # the cluster is made and deleted
JOBSET=https://github.com/kubernetes-sigs/jobset/releases/download/v0.12.0/manifests.yaml

usage() {
  cat <<'TEXT'
usage: gke.sh COMMAND --project P --zone Z --name N [OPTIONS] [-- OPTIONS OF rvpo train]

  create   --type tpu7x:2x2x2   a cluster, JobSet in it, and a node pool that is the slice
  install  --wheel FILE --workdir gs://BUCKET/RUN   the wheel, pinned, and all it needs, beside the
           workdir, from where each pod takes it
  run      the options of create and install, -- ...   the JobSet; it restarts itself and resumes
  up       create, install, run; deletes all of it where one of them fails
  watch    waits for the end and deletes all of it
  logs     follows the log of worker 0, or --worker I
  manifest the options of run: prints the JobSet and calls nothing
  stop     saves and stops the run; the node pool stays
  delete   JobSet, node pool and cluster

  --spot | --reservation NAME   how it is paid for; default: on demand
  --cluster NAME                a cluster with JobSet, which is used and never deleted; default:
                                one is made and deleted, called as the run
  --service-account EMAIL       which the nodes are; project.sh prints it
  --with PATH                   a file or folder that rvpo train reads; again for another
  --fetch gs://BUCKET/PATH      a folder that each pod copies beside it; again for another
  --keep                        deletes nothing when a step fails
  --every SECONDS               between two looks (60)
  --dry-run                     prints every call and makes none
TEXT
}

prepare() { # COMMAND: checks everything before the first call
  local rule='at most 40 of a-z, 0-9 and -, beginning with a letter'
  local name='[a-z]([a-z0-9-]{0,38}[a-z0-9])?'
  check_place
  [[ -z $CLUSTER ]] || OWN=''
  check --cluster "${CLUSTER:=$NAME}" "$name" "$rule" 'See: gcloud container clusters list'
  [[ -z $RESERVATION ]] || check --reservation "$RESERVATION" "$name" "$rule" \
    'See: gcloud compute reservations list'
  [[ -z $SPOT || -z $RESERVATION ]] || refuse '--spot must stand alone, got --reservation too.' \
    'Choose one of the two.'
  check --worker "$WORKER" '[0-9]{1,4}' 'the number of a worker' 'Example: --worker 0'
  check_account
  AT=("--project=$PROJECT" "--location=$ZONE")
  CONTEXT=gke_${PROJECT}_${ZONE}_$CLUSTER
  HOLDS=cluster # what takes node pool and JobSet along when it goes
  KINDS=(jobset pool)
  [[ -z $OWN ]] || KINDS+=(cluster)
  KINDS+=(policy)
  case $1 in create | run | up | manifest) look_up_type ;; esac
  case $1 in install | run | up | manifest)
    check_files
    check_workdir
    STAGE=$WORKDIR.launch/${CHECKSUM:0:12}
    ;;
  esac
  case $1 in run | up | manifest) check_train_options ;; esac
}

in_cluster() { call kubectl "--context=$CONTEXT" "$@"; }

name_jobset() { printf 'the JobSet %s' "$NAME"; }
list_jobset() {
  ask '' kubectl "--context=$CONTEXT" get jobset "$NAME" --ignore-not-found --output=name
}
delete_jobset() { in_cluster delete jobset "$NAME" --ignore-not-found --cascade=foreground \
    --timeout=15m; }

name_pool() { printf 'the node pool %s of the cluster %s' "$NAME" "$CLUSTER"; }
list_pool() {
  ask '' gcloud container node-pools list "${AT[@]}" "--cluster=$CLUSTER" "--filter=name=$NAME" \
    '--format=value(name)'
}
delete_pool() {
  call gcloud container node-pools delete "$NAME" "${AT[@]}" "--cluster=$CLUSTER" --quiet
}

name_cluster() { printf 'the cluster %s in %s of %s' "$CLUSTER" "$ZONE" "$PROJECT"; }
list_cluster() {
  ask '' gcloud container clusters list "${AT[@]}" "--filter=name=$CLUSTER" '--format=value(name)'
}
delete_cluster() { call gcloud container clusters delete "$CLUSTER" "${AT[@]}" --quiet; }

name_policy() { printf 'the workload policy rvpo-slice-%s (free)' "$NAME"; }
list_policy() {
  ask '' gcloud compute resource-policies list "--project=$PROJECT" \
    "--filter=name=rvpo-slice-$NAME AND region:${ZONE%-*}" '--format=value(name)'
}
delete_policy() {
  call gcloud compute resource-policies delete "rvpo-slice-$NAME" "--project=$PROJECT" \
    "--region=${ZONE%-*}" --quiet
}

create() {
  local account=()
  [[ -z $ACCOUNT ]] || account=("--service-account=$ACCOUNT")
  if [[ -n $OWN ]]; then
    make cluster gcloud container clusters create "$CLUSTER" "${AT[@]}" --release-channel=rapid \
      --num-nodes=1 --machine-type=e2-standard-4 --scopes=cloud-platform "${account[@]}" --quiet
  fi
  call gcloud container clusters get-credentials "$CLUSTER" "${AT[@]}" --quiet
  if [[ -n $OWN ]]; then
    in_cluster apply --server-side "--filename=$JOBSET"
    in_cluster rollout status deployment/jobset-controller-manager --namespace=jobset-system \
      --timeout=10m
  else
    in_cluster get crd jobsets.jobset.x-k8s.io --output=name
  fi
  create_pool
}

create_pool() {
  local options=("${AT[@]}" "--cluster=$CLUSTER" "--machine-type=$MACHINE" "--num-nodes=$HOSTS"
    --scopes=cloud-platform --disk-size=200 --quiet)
  [[ $ACCELERATOR != tpu7x ]] || options+=(--disk-type=hyperdisk-balanced)
  if [[ $ACCELERATOR == tpu7x && $HOSTS -gt 1 ]]; then # its policy says the topology
    make policy gcloud compute resource-policies create workload-policy "rvpo-slice-$NAME" \
      "--project=$PROJECT" "--region=${ZONE%-*}" --type=HIGH_THROUGHPUT \
      "--accelerator-topology=${SLICE#*:}"
    options+=("--placement-policy=rvpo-slice-$NAME")
  elif [[ $HOSTS -gt 1 ]]; then
    options+=("--tpu-topology=${SLICE#*:}")
  fi
  [[ -z $SPOT ]] || options+=(--spot)
  [[ -z $RESERVATION ]] ||
    options+=(--reservation-affinity=specific "--reservation=$RESERVATION")
  [[ -z $ACCOUNT ]] || options+=("--service-account=$ACCOUNT")
  make pool gcloud container node-pools create "$NAME" "${options[@]}"
}

install() {
  call gcloud storage cp --recursive "$WHEEL" "$HERE/constraints.txt" "${WITH[@]}" "$STAGE/" \
    "--project=$PROJECT"
}

manifest() {
  local each tail='' fetch='' line=$'\n                      '
  for each in "${OPTIONS[@]}"; do tail+=$'\n                    - "'"$each\""; done
  for each in "${FETCH[@]}"; do fetch+="${line}gcloud storage cp --recursive $each ."; done
  fill "$HERE/jobset.yaml" NAME "$NAME" HOSTS "$HOSTS" ACCELERATOR "$ACCELERATOR" \
    TOPOLOGY "${SLICE#*:}" STAGE "$STAGE" FETCH "$fetch" CHECKSUM "$CHECKSUM" PACKAGE "$PACKAGE" \
    EXTRAS "$EXTRAS" WORKDIR "$WORKDIR" OPTIONS "$tail" CHIPS "$CHIPS"
}

run() {
  TEMP=$(mktemp -d)
  manifest >"$TEMP/jobset.yaml"
  [[ -z $DRY_RUN ]] || sed 's/^/  | /' "$TEMP/jobset.yaml"
  make jobset kubectl "--context=$CONTEXT" create "--filename=$TEMP/jobset.yaml"
  say "the run trains in $WORKDIR; the node pool costs money until: $PROGRAM watch, or delete"
}

up() {
  create
  install
  run
}

watch() { # until the JobSet ends; it restarts itself after a preemption
  local now
  while true; do
    now=$(ask Completed kubectl "--context=$CONTEXT" get jobset "$NAME" \
      '--output=jsonpath={.status.terminalState}') || now=UNKNOWN
    case $now in
      Completed | Failed) break ;;
      UNKNOWN) is_there || fail 'there is no such JobSet any more.' ;;
    esac
    pause
  done
  FOUND=()
  if [[ $now == Failed ]]; then
    logs --tail=100 || true
    MADE=("${KINDS[@]}")
    fail 'the run failed; its last lines stand above, its checkpoints in its workdir.'
  fi
  say 'the run has ended well.'
  delete_all "${KINDS[@]}"
}

is_there() { # true also where it cannot be looked for
  local found
  found=$(list_jobset) || return 0
  [[ -n $found ]]
}

logs() { # FLAG...
  in_cluster logs "$@" --container=train \
    "--selector=jobset.sigs.k8s.io/jobset-name=$NAME,batch.kubernetes.io/job-completion-index=$WORKER"
}

main() {
  local command=${1:---help}
  case $command in
    -h | --help) usage && return ;;
    create | install | run | up | watch | logs | manifest | stop | delete) ;;
    *) refuse "there is no command $(printf '%q' "$command")." "See: $PROGRAM --help" ;;
  esac
  shift
  parse "$@"
  prepare "$command"
  case $command in
    install | watch | logs | stop) FOUND=("${KINDS[@]}") ;;
    run) FOUND=("${KINDS[@]:1}") ;;
  esac
  case $command in
    logs) logs --follow --tail=200 ;;
    stop)
      delete_jobset
      tell "${KINDS[@]}"
      ;;
    delete) delete_all "${KINDS[@]}" ;;
    *) "$command" ;;
  esac
}

main "$@"
