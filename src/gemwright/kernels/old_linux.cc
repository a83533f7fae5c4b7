// Symbols that libstdc++ 11 and later takes from new system libraries, defined here so that the
// wheel runs wherever jaxlib's does: without them it asks for glibc 2.32 and GLIBCXX 3.4.29.
#include <new>
#include <sstream>

// "There may be other threads", which is always safe to say.
extern "C" {
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;
}

namespace std {
__attribute__((noreturn)) void __throw_bad_array_new_length() { throw bad_array_new_length(); }
}  // namespace std

// XLA's header makes messages by it.
template std::basic_stringstream<char>::basic_stringstream();
