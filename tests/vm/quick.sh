#!/bin/sh
# The quick tier on a platform: the doctor, its attacks, then one real sandbox for each main promise (tests/tiers.py).
# Run in a guest by qemu.py or guest.py, from the project's directory; arguments go to pytest.
python3=${PYTHON3:-python3}
failed=0
"$python3" -m capsule_run doctor
[ $? -le 1 ] || failed=1
# user-mode-linux runs calls through the 32-bit gate as 64-bit ones: there this attempt, and no other, may succeed
through=$("$python3" -m capsule_run doctor --attack | tee /dev/stderr | grep -c '^THROUGH')
[ "$through" -le "${ALLOWED_THROUGH:-0}" ] || failed=1
"$python3" -m pytest -v -n0 -p no:cacheprovider -o addopts= -rs \
	tests/sandbox/test_command_line.py::test_exit_code_is_the_commands \
	tests/sandbox/test_limits.py::test_open_files_are_limited \
	tests/sandbox/test_limits.py::test_output_of_exactly_the_limit_is_whole \
	tests/sandbox/test_limits.py::test_timeout_ends_the_run_and_keeps_output \
	tests/sandbox/test_denied_syscalls.py::test_denied_syscall_is_listed \
	tests/sandbox/test_files_in.py::test_input_file_belongs_to_the_command \
	tests/sandbox/test_view.py::test_workspace_in_command_mode_is_a_private_copy \
	"tests/escape/test_secrets.py::test_secret_of_the_list_is_unreadable_in_a_workspace[cow-fields0]" \
	"tests/escape/test_secrets.py::test_secret_of_the_list_is_unreadable_in_a_workspace[ro-fields3]" \
	tests/escape/test_network.py::test_network_has_only_loopback "$@" || failed=1
exit $failed
