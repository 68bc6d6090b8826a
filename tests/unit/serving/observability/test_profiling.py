import threading

from serving.observability.profiling import profile


def test_a_profile_names_the_threads_and_what_they_do() -> None:
    ended = threading.Event()

    def lingering() -> None:
        ended.wait()

    thread = threading.Thread(target=lingering, name="slow")
    thread.start()
    try:
        lines = profile(0.2).splitlines()
    finally:
        ended.set()
        thread.join()
    (mine,) = [line for line in lines if line.startswith("slow;")]
    stack, count = mine.rsplit(" ", 1)
    assert int(count) >= 2
    assert "lingering:" in stack
    assert stack.index("Thread.run:") < stack.index("lingering:")  # outermost first
    assert not any("profiling.profile" in line for line in lines)
