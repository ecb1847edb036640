# shellcheck shell=bash
# What the launch scripts share: refusals, calls that a dry run prints, the table of accelerators,
# and what is deleted or named when a step fails. Sourced, after PROGRAM is set.

((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) || {
  printf '%s: bash must be 4.4 or newer, got %s.\n' "$PROGRAM" "$BASH_VERSION" >&2
  exit 2
}
exec 3>&1 # calls are shown here, also while standard output is caught
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
DRY_RUN='' # set: nothing is called
KEEP=''    # set: a failed step deletes nothing
EXTRAS=tpu,lora,gcs
EVERY=60   # seconds between two looks
MADE=()    # what this command has made, the last one first
FOUND=()   # what it works on and has not made

refuse() { # PROBLEM REMEDY: bad usage
  printf '%s: %s\n  %s\n' "$PROGRAM" "$1" "$2" >&2
  exit 2
}

fail() { # SENTENCE: a step failed
  say "$1"
  exit 1
}

say() { printf '%s%s: %s\n' "$PROGRAM" "${DRY_RUN:+ (dry run)}" "$*" >&2; }

check() { # OPTION VALUE PATTERN RULE REMEDY
  [[ $2 =~ ^($3)$ ]] || refuse "$1 must be $4, got $(printf '%q' "$2")." "$5"
}

show() {
  local text
  text=$(printf ' %q' "$@")
  printf '+%s\n' "$text" >&3
}

call() { # COMMAND...: shown, then run
  show "$@"
  [[ -n $DRY_RUN ]] || "$@"
}

ask() { # ANSWER COMMAND...: a call that only reads; a dry run takes ANSWER for what it prints
  local answer=$1
  shift
  show "$@"
  if [[ -n $DRY_RUN ]]; then printf '%s\n' "$answer"; else "$@"; fi
}

pause() { [[ -n $DRY_RUN ]] || sleep "$EVERY"; }

# Each thing that costs money is a kind with three functions: name_KIND, list_KIND (prints nothing
# where there is none) and delete_KIND.

make() { # KIND COMMAND...: makes one where there is none of its name
  local kind=$1 found
  shift
  found=$("list_$kind") || fail "could not look for $("name_$kind")."
  [[ -z $found ]] || refuse "$("name_$kind") exists already." \
    "Choose another --name, or delete it: $(how_to_delete "$kind")"
  MADE=("$kind" "${MADE[@]}")
  call "$@"
}

unmake() { # KIND: true once there is none
  local found
  if "delete_$1"; then return 0; fi # a bare return in a trap has the status before it
  found=$("list_$1") && [[ -z $found ]]
}

how_to_delete() { # KIND
  local text
  text=$(DRY_RUN=yes "delete_$1" 3>&1)
  printf '%s' "${text#+ }"
}

delete_all() { # KIND...: says what is left; HOLDS, once gone, has taken those before it along
  local kind left=()
  for kind in "$@"; do
    if ! unmake "$kind"; then
      left+=("$kind")
    elif [[ $kind == "${HOLDS:-}" ]]; then
      left=()
    fi
  done
  if ((${#left[@]})); then
    say "could not be deleted:"
    tell "${left[@]}"
    return 1
  fi
  say "nothing is left running."
}

tell() { # KIND...: what is there and costs money, and how it ends
  local kind found word
  for kind in "$@"; do
    word='still there'
    found=$("list_$kind") || found='' word='perhaps still there, it could not be looked for'
    [[ -z $found && $word == 'still there' ]] ||
      say "  $word: $("name_$kind"); delete it: $(how_to_delete "$kind")"
  done
}

# Runs at every exit. A second Ctrl-C does not interrupt the deleting.
on_exit() {
  local status=$?
  trap '' INT TERM
  [[ -z ${TEMP:-} ]] || rm -rf "$TEMP"
  ((status)) || exit 0
  if ((${#MADE[@]} == 0)) || [[ -n $KEEP ]]; then
    ((${#MADE[@]} + ${#FOUND[@]} || status == 2)) || say 'failed; nothing was made.'
    tell "${MADE[@]}" "${FOUND[@]}"
  else
    say "failed; deleting what was made:"
    delete_all "${MADE[@]}" || true
    tell "${FOUND[@]}"
  fi
  exit "$status"
}
trap on_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# The values that name things in the cloud: each is checked before the first call.

ARGUMENT='[A-Za-z0-9_./:=,+@-]+'
FOLDER='gs://[a-z0-9][a-z0-9._-]{1,61}[a-z0-9](/[A-Za-z0-9_][A-Za-z0-9._=-]*)+'

check_place() {
  check --project "$PROJECT" '[a-z][a-z0-9-]{4,28}[a-z0-9]' \
    'the id of a Google Cloud project (6 to 30 of a-z, 0-9 and -)' 'See: gcloud projects list'
  check --zone "$ZONE" '[a-z]+-[a-z]+[0-9]+-(ai[0-9]+)?[a-z]' 'a zone such as us-east5-b' \
    'Zones with TPUs: https://cloud.google.com/tpu/docs/regions-zones'
  check --name "$NAME" '[a-z]([a-z0-9-]{0,28}[a-z0-9])?' \
    'at most 30 of a-z, 0-9 and -, beginning with a letter' 'Example: --name rvpo-7b'
  check --every "$EVERY" '[0-9]{1,5}' 'a number of seconds' 'Example: --every 60'
}

check_account() {
  [[ -z $ACCOUNT ]] || check --service-account "$ACCOUNT" \
    '[a-z0-9-]{4,63}@[a-z0-9.-]+\.gserviceaccount\.com' 'the e-mail address of a service account' \
    'project.sh prints the one that it makes.'
}

check_workdir() {
  check --workdir "$WORKDIR" "$FOLDER" 'a folder in a bucket (letters, digits, ., _, = and -)' \
    'The slice and its disks may vanish at any time. Example: --workdir gs://my-bucket/runs/a'
}

check_train_options() {
  local option
  for option in "${OPTIONS[@]}"; do
    check 'an option of rvpo train' "$option" "$ARGUMENT" \
      'of letters, digits and _./:=,+@-' \
      'Put other values into a config file: --with my_config.py, then -- --config my_config.py'
    [[ $option != --workdir && $option != --workdir=* ]] || refuse \
      '--workdir must stand before --, got it among the options of rvpo train.' \
      'It is the same on every worker and after every restart.'
  done
}

fill() { # TEMPLATE KEY VALUE ...: the template's text with every {KEY} replaced
  local text
  text=$(<"$1")
  shift
  while (($#)); do
    text=${text//"{$1}"/"$2"}
    shift 2
  done
  printf '%s\n' "$text"
}

# What is installed: the wheel, the versions of all it needs, files of the user's, folders of a bucket.

check_files() {
  local path
  check --wheel "${WHEEL##*/}" 'rvpo_jax-[0-9][A-Za-z0-9.+!]*-py3-none-any\.whl' \
    'a wheel of rvpo-jax' 'Build it: python -m pip wheel --no-deps --wheel-dir dist .'
  [[ -f $WHEEL ]] || refuse "--wheel must be a file, got $(printf '%q' "$WHEEL")." \
    'Build it: python -m pip wheel --no-deps --wheel-dir dist .'
  for path in "${WITH[@]}"; do
    [[ -e $path ]] || refuse "--with must be a file or folder, got $(printf '%q' "$path")." \
      'Name what rvpo train reads beside its config.'
    check --with "$(basename "$path")" '[A-Za-z0-9_][A-Za-z0-9_.-]*' \
      'a file or folder named by letters, digits, ., _ and -' 'Rename it.'
  done
  for path in "${FETCH[@]}"; do
    check --fetch "$path" "$FOLDER" 'a folder or file in a bucket' \
      'Example: --fetch gs://my-bucket/models/Qwen2.5-7B-Instruct'
  done
  PACKAGE=${WHEEL##*/}
  CHECKSUM=$(sha256sum "$WHEEL" 2>/dev/null || shasum -a 256 "$WHEEL")
  CHECKSUM=${CHECKSUM%% *}
}

# SLICE, VM_TYPE, HOSTS, CHIPS, ACCELERATOR, MACHINE, VM_RUNTIME of --type, as in accelerators.tsv.
look_up_type() {
  local row generation
  check --type "$TYPE" '[a-z0-9]+[:-][0-9x]+' 'such as v6e-16 or v6e:4x4' \
    'The table is accelerators.tsv.'
  row=$(awk -F '\t' -v type="$TYPE" 'NR > 1 && ($1 == type || $2 == type)' "$HERE/accelerators.tsv")
  if [[ -z $row ]]; then
    generation=${TYPE%%[:-]*}
    refuse "--type must be a slice in accelerators.tsv, got $TYPE." "Known: $(
      awk -F '\t' -v generation="$generation" 'NR > 1 {
        split($1, a, ":"); split($2, b, "-"); name = $1 ($2 == "-" ? "" : " = " $2)
        all = all (all ? ", " : "") name
        if (a[1] == generation || b[1] == generation) own = own (own ? ", " : "") name
      } END { print own ? own : all }' "$HERE/accelerators.tsv"
    )."
  fi
  IFS=$'\t' read -r SLICE VM_TYPE HOSTS CHIPS ACCELERATOR MACHINE VM_RUNTIME <<<"$row"
}

# Options: every one has a value, but those of SWITCHES. What stands behind -- is for rvpo train.
parse() {
  PROJECT='' ZONE='' NAME='' TYPE='' WHEEL='' WORKDIR='' ACCOUNT='' RUNTIME='' WORKER=0
  CLUSTER='' RESERVATION='' BUCKET='' SPOT='' RESERVED='' DIRECT=''
  WITH=() FETCH=() OPTIONS=()
  while (($#)); do
    case $1 in
      --) OPTIONS=("${@:2}") && return ;;
      --dry-run) DRY_RUN=yes ;;
      --keep) KEEP=yes ;;
      --spot) SPOT=yes ;;
      --reserved) RESERVED=yes ;;
      --direct) DIRECT=yes ;;
      --project | --zone | --name | --type | --wheel | --workdir | --worker | --every | --bucket | \
        --service-account | --runtime | --cluster | --reservation | --with | --fetch)
        (($# >= 2)) || refuse "$1 must have a value, got none." "See: $PROGRAM --help"
        take "$1" "$2"
        shift
        ;;
      *) refuse "there is no option $(printf '%q' "$1")." "See: $PROGRAM --help" ;;
    esac
    shift
  done
}

take() { # OPTION VALUE
  case $1 in
    --with) WITH+=("$2") ;;
    --fetch) FETCH+=("$2") ;;
    --service-account) ACCOUNT=$2 ;;
    *)
      local name=${1#--}
      printf -v "${name^^}" '%s' "$2"
      ;;
  esac
}
