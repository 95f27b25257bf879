// Renders chat templates with llama.cpp's own Jinja engine, for make_template_goldens.py.
//
// Its argument is the time in seconds since 1970. Reads lines "TEMPLATE_FILE<tab>JSON_FILE", answers each with "OK SIZE" or "ERR SIZE", a line
// break and as many bytes. In the sources of llama-cpp-python (pip download --no-binary :all:),
// with an empty file stub/log.h and GGML_ASSERT and GGML_ABORT as abort() in stub/ggml.h:
//
//   cd vendor/llama.cpp && g++ -std=c++17 -O1 -I stub -I common -I vendor -o llama_jinja
//     llama_jinja.cpp common/jinja/{lexer,parser,runtime,string,value}.cpp
//     common/unicode.cpp common/json.cpp

#include "jinja/lexer.h"
#include "jinja/parser.h"
#include "jinja/runtime.h"
#include "json.h"

#include <ctime>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

static std::string read_file(const std::string & path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

static std::string render(const std::string & source, const std::string & values, std::time_t now) {
    jinja::lexer lexer;
    auto program = jinja::parse_from_tokens(lexer.tokenize(source));
    jinja::context context(source);
    context.current_time = now;
    jinja::global_from_json(context, common_json::parse(values), false);
    jinja::runtime runtime(context);
    return jinja::runtime::gather_string_parts(runtime.execute(program))->as_string().str();
}

int main(int argc, char ** argv) {
    const std::time_t now = argc > 1 ? std::stoll(argv[1]) : std::time(nullptr);
    std::string line;
    while (std::getline(std::cin, line)) {
        const auto tab = line.find('\t');
        std::string out;
        const char * how = "OK";
        try {
            out = render(read_file(line.substr(0, tab)), read_file(line.substr(tab + 1)), now);
        } catch (const std::exception & error) {
            how = "ERR";
            out = error.what();
        }
        std::cout << how << " " << out.size() << "\n" << out << std::flush;
    }
}
