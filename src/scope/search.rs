use super::{Owner, Scope, known};
use crate::language::Language;

/// The known scopes in which every word of `words` stands, in whatever language: in the name, the use, the APIs, the
/// owner's name or the heading. No words: all scopes.
pub fn search(words: &str) -> Vec<&'static Scope> {
    let words: Vec<String> = words.split_whitespace().map(str::to_lowercase).collect();
    known().iter().filter(|scope| words.iter().all(|word| stands_in(scope, word))).collect()
}

fn stands_in(scope: &Scope, word: &str) -> bool {
    let headings = Language::ALL.map(|language| scope.group.title(language));
    let texts = scope.purpose.all().chain(headings).chain(owner_names(scope.owner).iter().copied());
    let apis = scope.apis.iter().map(String::as_str);
    texts.chain(apis).chain([scope.name.as_str()]).any(|text| text.to_lowercase().contains(word))
}

/// What people call the owner.
fn owner_names(owner: Owner) -> &'static [&'static str] {
    match owner {
        Owner::Customs => &["Norwegian Customs", "Tolletaten", "Digitoll"],
        Owner::Altinn => &["Altinn"],
        Owner::Tax => &["Norwegian Tax Administration", "Skatteetaten"],
        Owner::Digdir => &["Digdir", "Digitaliseringsdirektoratet"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(words: &str) -> Vec<&'static str> {
        search(words).into_iter().map(|scope| scope.name.as_str()).collect()
    }

    #[test]
    fn a_word_of_either_language_finds_the_same_scope() {
        for words in ["lorry", "lastebilen", "LORRY border", "movement-road-api-v2 lastebilen"] {
            assert_eq!(names(words), ["toll:movement/road/v2"], "{words}");
        }
        assert_eq!(names("formidling"), ["altinn:broker.write", "altinn:broker.read"]);
        assert!(names("tjenesteeiere").contains(&"altinn:correspondence.read"));
    }

    #[test]
    fn all_words_must_stand_in_it_and_none_means_everything() {
        assert_eq!(search("").len(), known().len());
        assert_eq!(names("eseal road v2"), ["toll:eu/movement/road/v2"]);
        assert_eq!(names("lorry zeppelin"), [""; 0]);
    }
}
