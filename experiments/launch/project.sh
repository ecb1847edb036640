#!/usr/bin/env bash
# Prepares a Google Cloud project, once: services, a bucket, an account for the workers.
set -euo pipefail
PROGRAM=project.sh
# shellcheck source=calls.sh
source "$(dirname "${BASH_SOURCE[0]}")/calls.sh"
trap - EXIT # nothing that is made here runs

usage() {
  cat <<'TEXT'
usage: project.sh --project P --zone Z --bucket NAME [--dry-run]

Turns on the services, makes the bucket in the region of the zone and the account rvpo-worker, and
lets that account read and write the bucket. What is there already stays. Nothing of it costs money
but what lies in the bucket.
TEXT
}

there() { # COMMAND...: whether what it describes is there; a dry run says that nothing is
  show "$@"
  [[ -z $DRY_RUN ]] && "$@" >/dev/null 2>&1
}

main() {
  local account
  case ${1:---help} in -h | --help) usage && return ;; esac
  parse "$@"
  NAME=project
  check_place
  check --bucket "$BUCKET" '[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]' \
    'the name of a bucket (3 to 63 of a-z, 0-9, _ and -)' 'It is unique in all of Google Cloud.'
  account=rvpo-worker@$PROJECT.iam.gserviceaccount.com
  call gcloud services enable tpu.googleapis.com container.googleapis.com storage.googleapis.com \
    compute.googleapis.com iam.googleapis.com "--project=$PROJECT" --quiet
  there gcloud storage buckets describe "gs://$BUCKET" "--project=$PROJECT" ||
    call gcloud storage buckets create "gs://$BUCKET" "--project=$PROJECT" \
      "--location=${ZONE%-*}" --uniform-bucket-level-access --public-access-prevention
  there gcloud iam service-accounts describe "$account" "--project=$PROJECT" ||
    call gcloud iam service-accounts create rvpo-worker "--project=$PROJECT"
  call gcloud storage buckets add-iam-policy-binding "gs://$BUCKET" \
    "--member=serviceAccount:$account" --role=roles/storage.objectUser "--project=$PROJECT"
  # What the nodes of GKE need: logs and metrics.
  call gcloud projects add-iam-policy-binding "$PROJECT" "--member=serviceAccount:$account" \
    --role=roles/container.defaultNodeServiceAccount --condition=None --quiet
  printf 'Next: --service-account %s --workdir gs://%s/runs/NAME\n' "$account" "$BUCKET"
}

main "$@"
