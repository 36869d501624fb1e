# Functions for the other scripts, which source this file.
#
# use_venv: makes .venv in the repository, installs this checkout and the test
# tools into it, and puts it on PATH. Installs again only after a change of
# setup.py or of the interpreter.

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
      >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
  echo 'Error: no Python 3.11, 3.12 or 3.13 was found; set PYTHON to one.' >&2
  return 1
}

use_venv() {
  local python stamp wanted
  python=$(find_python)
  local venv=$repository/.venv
  stamp=$venv/.installed
  wanted="$("$python" --version) $(cksum <"$repository/setup.py")"
  if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
    echo "Installing into $venv (about 3 GB, a minute or more) ..." >&2
    rm -rf "$venv"
    "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      --editable "$repository[dev]"
    echo "$wanted" >"$stamp"
  fi
  PATH=$venv/bin:$PATH
}
